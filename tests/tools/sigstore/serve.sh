#!/usr/bin/env bash
# serve.sh [FLAG...]: a private Sigstore on this machine, without root and without TLS, until it is told to end: Fulcio, Rekor v2, Rekor v1
# (its trees in memory), a timestamp authority, and stand-ins for OIDC issuers and a certificate transparency log.
#
#   --dir DIR             keys, configuration, logs. What is there is used again. Default: a new folder, removed at the end
#   --until-eof           end when standard input does: whoever holds the other end of the pipe takes the servers along
#   --address IP          where to listen; default 127.0.0.1
#   --name HOST           the host in all URLs; default: the address
#   --port N              the first of 32 ports; default: any that are free
#   --service-accounts ISSUER CA   have Fulcio accept a Kubernetes cluster's tokens; CA is the file of its certificate authority
#
# When everything answers it prints "ready DIR". In DIR then:
#
#   trusted_root.json         all of them
#   signing_config.json       sign with Rekor v2 and timestamps
#   signing_config.v1.json    sign with Rekor v1 and timestamps
#   urls                      issuers, fulcio, rekor, rekor-v1, timestamps, ct-log: one a line, with its URL
#   log/, pid/                of each server; a test may kill one
#
# Tokens, believed by Fulcio:  curl "$issuers/email/token?email=dev@example.com"
# Issuers: email, uri (sub), username (sub), spiffe (sub), github-workflow (the claims of GitHub's tokens); any claim may be given.
set -euo pipefail

say() { printf '%s\n' "$*" >&2; }
die() { say "sigstore: $*"; exit 1; }

dir='' until_eof='' address=127.0.0.1 name='' first='' cluster=() temporary=''
while [ $# -gt 0 ]; do
  case $1 in
    --dir) dir=$2; shift ;;
    --until-eof) until_eof=1 ;;
    --address) address=$2; shift ;;
    --name) name=$2; shift ;;
    --port) first=$2; shift ;;
    --service-accounts) cluster=("$2" "$(realpath "$3")"); shift 2 ;;
    --help) sed -n '2,/^set/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit ;;
    *) die "unknown flag $1 (serve.sh --help)" ;;
  esac
  shift
done
name=${name:-$address}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PATH=$("$here/../get.sh" --bin):$PATH
for c in openssl curl cosign fulcio rekor rekor-v1 trillian timestamp-authority standins; do
  command -v $c >/dev/null || die "$c is missing (make tools)"
done
# The kernel ends the servers with this script, however that ends.
leash=()
! command -v setpriv >/dev/null || leash=(setpriv --pdeathsig KILL)
unset http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY

finish() {
  trap '' INT TERM HUP
  stop
  [ -z "$temporary" ] || rm -rf "$dir"
}
trap finish EXIT
trap 'exit 0' INT TERM HUP
if [ -z "$dir" ]; then
  dir=$(mktemp -d)
  temporary=1
fi
mkdir -p "$dir"
cd "$dir"
dir=$PWD
rm -rf ready pid fulcio.sock
mkdir -p log pid tiles

# pids: of the servers
pids() { cat pid/* 2>/dev/null || true; }

# stop: they keep nothing that a sudden end could hurt
stop() {
  local pids
  mapfile -t pids < <(pids)
  [ ${#pids[@]} = 0 ] || kill -KILL "${pids[@]}" 2>/dev/null || true
  wait 2>/dev/null # or the shell reports each
  rm -rf pid/* fulcio.sock
}

serve() { # NAME COMMAND...
  "${leash[@]}" "${@:2}" >>"log/$1" 2>&1 </dev/null &
  echo $! >"pid/$1"
}

alive() { kill -0 "$(cat "pid/$1")" 2>/dev/null; } # NAME

# answers NAME URL: wait until it does. Fails when the server ends first, or needs more than 20 s.
answers() {
  local end=$((SECONDS + 20))
  until curl -sf --max-time 5 -o /dev/null "$2"; do
    alive "$1" && [ $SECONDS -lt $end ] || return 1
    sleep 0.05
  done
}

# all_alive: what answered at a port of ours may have been somebody else's
all_alive() {
  local f
  for f in pid/*; do alive "${f#pid/}" || return 1; done
}

p256() { openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1"; }

# ca NAME: a root NAME-root.pem with its key
ca() {
  p256 "$1-root.key"
  openssl req -x509 -new -key "$1-root.key" -subj "/O=test/CN=$1 root" -days 30 -out "$1-root.pem" \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign
}

# issued NAME EXTENSIONS: NAME.key, and NAME.pem with its certificate and the root's
issued() {
  ca "$1"
  p256 "$1.key"
  openssl req -new -key "$1.key" -subj "/O=test/CN=$1" -out "$1.csr"
  openssl x509 -req -in "$1.csr" -CA "$1-root.pem" -CAkey "$1-root.key" -CAcreateserial -days 30 -extfile <(printf '%s\n' "${@:2}") -out "$1.pem" 2>/dev/null
  cat "$1-root.pem" >>"$1.pem"
}

make_keys() {
  [ ! -f since ] || return 0
  openssl genpkey -quiet -algorithm ed25519 -out rekor.key
  p256 rekor-v1.key
  issued fulcio basicConstraints=critical,CA:TRUE,pathlen:0 keyUsage=critical,keyCertSign,cRLSign extendedKeyUsage=codeSigning
  issued timestamps basicConstraints=critical,CA:FALSE keyUsage=critical,digitalSignature extendedKeyUsage=critical,timeStamping
  date -u -d '-1 hour' +%Y-%m-%dT%H:%M:%SZ >since
}

issuer() { # URL TYPE [LINE...]
  printf '  %s:\n    issuer-url: %s\n    client-id: sigstore\n    type: %s\n' "$1" "$1" "$2"
  shift 2
  [ $# = 0 ] || printf '    %s\n' "$@"
}

fulcio_config() {
  local issuers=http://$name:$first/oidc
  echo oidc-issuers:
  issuer "$issuers/email" email
  issuer "$issuers/github-workflow" github-workflow
  issuer "$issuers/uri" uri "subject-domain: http://$name:$first"
  issuer "$issuers/username" username "subject-domain: $name"
  issuer "$issuers/spiffe" spiffe "spiffe-trust-domain: sigstore.test"
  if [ ${#cluster[@]} -gt 0 ]; then
    issuer "${cluster[0]}" kubernetes 'ca-cert: |'
    sed 's/^/      /' "${cluster[1]}"
  fi
}

# free: does nothing listen on the ports that the servers would take?
free() {
  local offset
  for offset in 0 1 2 3 10 11 12 20 30 31; do
    ! (: <"/dev/tcp/$address/$((first + offset))") 2>/dev/null || return 1
  done
}

# choose_ports: below those that the kernel gives to clients
choose_ports() {
  for _ in {1..50}; do
    first=$((20000 + RANDOM % 300 * 32))
    ! free || return 0
  done
  die "no 32 free ports in a row"
}

# start: fails when one of them does not come up
start() {
  fulcio_config >fulcio.yaml
  serve standins standins -listen "$address:$first" -name "$name" -tiles tiles
  # The origin of its checkpoints must be the host of its URL, without the port, or clients find no signature that they can verify.
  serve rekor rekor serve --hostname "$name" --storage-dir tiles --signer-filepath rekor.key --checkpoint-interval 200ms --batch-max-age 50ms \
    --http-address "$address" --http-port $((first + 10)) --grpc-address "$address" --grpc-port $((first + 11)) --http-metrics-port $((first + 12))
  serve timestamp-authority timestamp-authority -listen "$address:$((first + 20))" -key timestamps.key -chain timestamps.pem
  serve trillian trillian -listen "$address:$((first + 31))"
  # With the index API it would want a Redis.
  serve rekor-v1 rekor-v1 serve --rekor_server.address "$address" --port $((first + 30)) --rekor_server.hostname "$name" --rekor_server.signer rekor-v1.key \
    --trillian_log_server.address "$address" --trillian_log_server.port $((first + 31)) --enable_retrieve_api=false --log_type prod
  answers standins "http://$address:$first/oidc/email/keys" || return 1
  # Its HTTP side calls its gRPC side at 127.0.0.1, wherever that is told to listen.
  serve fulcio fulcio serve --host "$address" --port $((first + 1)) --grpc-host 127.0.0.1 --grpc-port $((first + 2)) --metrics-port $((first + 3)) \
    --legacy-unix-domain-socket fulcio.sock --config-path fulcio.yaml --ct-log-url "http://$address:$first" --ct-log-public-key-path ct.pub \
    --ca fileca --fileca-cert fulcio.pem --fileca-key fulcio.key --fileca-key-passwd '' --fileca-watch=false
  answers fulcio "http://$address:$((first + 1))/healthz" && answers rekor "http://$address:$((first + 10))/healthz" &&
    answers timestamp-authority "http://$address:$((first + 20))/ping" && answers rekor-v1 "http://$address:$((first + 30))/api/v1/log/publicKey"
}

write_urls() {
  cat <<U
issuers http://$name:$first/oidc
ct-log http://$name:$first
fulcio http://$name:$((first + 1))
rekor http://$name:$((first + 10))
timestamps http://$name:$((first + 20))/api/v1/timestamp
rekor-v1 http://$name:$((first + 30))
U
}

url() { sed -n "s/^$1 //p" urls; }

# write_trust: trusted_root.json and the signing configurations
write_trust() {
  local since
  since=$(<since)
  write_urls >urls
  openssl pkey -in rekor.key -pubout -out rekor.pub
  openssl pkey -in rekor-v1.key -pubout -out rekor-v1.pub
  cosign trusted-root create --out trusted_root.json \
    --fulcio "url=$(url fulcio),certificate-chain=fulcio.pem,start-time=$since" \
    --ctfe "url=$(url ct-log),public-key=ct.pub,start-time=$since" \
    --tsa "url=$(url timestamps),certificate-chain=timestamps.pem,start-time=$since" \
    --rekor "url=$(url rekor),public-key=rekor.pub,start-time=$since,origin=$name" \
    --rekor "url=$(url rekor-v1),public-key=rekor-v1.pub,start-time=$since"
  signing_config signing_config.json "$(url rekor)" 2
  signing_config signing_config.v1.json "$(url rekor-v1)" 1
}

signing_config() { # FILE URL-OF-REKOR VERSION-OF-ITS-API
  local rest
  rest="start-time=$(<since),operator=test"
  cosign signing-config create --out "$1" --rekor "url=$2,api-version=$3,$rest" --rekor-config ANY \
    --fulcio "url=$(url fulcio),api-version=1,$rest" --oidc-provider "url=$(url issuers)/email,api-version=1,$rest" \
    --tsa "url=$(url timestamps),api-version=1,$rest" --tsa-config ANY
}

show_logs() {
  local f
  for f in log/*; do say "== $f"; tail -n 5 "$f" >&2; done
}

make_keys
if [ -n "$first" ]; then
  start || { show_logs; die "a server did not start; logs are in $dir/log"; }
else # somebody may take a port between look and start
  for attempt in 1 2 3; do
    choose_ports
    ! { start && all_alive; } || break
    stop
    [ "$attempt" != 3 ] || { show_logs; die "a server did not start"; }
  done
fi
write_trust
: >ready
echo "ready $dir"
if [ -n "$until_eof" ]; then
  while read -r _; do :; done
else
  wait
  die "all servers have ended"
fi
