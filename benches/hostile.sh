#!/bin/bash
# hostile.sh: one namespace sends everything hostile that a tenant can (benches/hostile/README.md), without pause for three minutes, while
# others go on with their work. One replica of webhook and controller each, under the chart's own limits. Prints what was measured with the
# bound beside it; exit status 1 if a bound is broken. Needs python3 and openssl.
#
#   PACKGATE_KEEP_CLUSTER=1      leave the cluster up, and take one that is up
#   PACKGATE_IMAGE_PROFILE=dev   a debug build: good enough to try the scripts, not for figures
#   HOSTILE_SECONDS=180          how long the attacks last
#   HOSTILE_EVIDENCE=256         bundles of the largest image, of 4 MiB each; the registry keeps them on disk until the cluster goes
#   HOSTILE_ATTACKS='evidence …' only these of evidence, inline, lists, keys, connections
#   HOSTILE_RESULTS=FOLDER       keep what was measured, and the webhook's log
self=$(realpath "${BASH_SOURCE[0]}")
root=$(dirname "$(dirname "$self")")
[ -n "${PACKGATE_CLUSTER_INSIDE:-}" ] ||
  PACKGATE_CLUSTER_STATE=${PACKGATE_CLUSTER_STATE:-${PACKGATE_CLUSTER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/packgate/cluster}/state}-hostile
# shellcheck source-path=SCRIPTDIR source=../tests/cluster/env/env.sh
. "$root/tests/cluster/env/env.sh"
hostile=$root/benches/hostile
seconds=${HOSTILE_SECONDS:-180}
attacks=${HOSTILE_ATTACKS:-evidence inline lists keys connections}
attacker=tenant@hostile-attacker
proxies=8010 # the administrator's; the attacker's is the next one

# shellcheck disable=SC2317 # called by trap
finish() {
  local status=$? pid
  trap - EXIT
  for pid in "${children[@]}"; do kill "$pid" 2>/dev/null || true; done
  [ -n "${PACKGATE_CLUSTER_INSIDE:-}" ] || [ "${PACKGATE_KEEP_CLUSTER:-0}" = 1 ] ||
    { "$root/tests/cluster/env/down.sh" && "$root/tests/cluster/env/leftovers.sh"; } || status=1
  exit "$status"
}
children=()

outside() {
  only_ours
  for c in python3 openssl; do command -v $c >/dev/null || die "needs $c"; done
  trap finish EXIT
  trap 'exit 130' INT TERM
  "$root/tests/cluster/env/up.sh"
  pods_first
  local layout client
  layout=$("$root/tests/cluster/image.sh")
  client=$(mktemp -d)/webhook
  go -C "$root/benches/webhook" build -o "$client" .
  "$TOOLS" crane test-registry
  HOSTILE_BINARY=$("$root/tests/cluster/image.sh" --binary 2>/dev/null) HOSTILE_IMAGE=$("$root/tests/cluster/push-image.sh" "$layout") HOSTILE_CLIENT=$client \
    "$root/tests/cluster/env/exec.sh" "$self"
}

# pods_first: the node's Pods have the processor before all that stands for other machines here: API server, etcd, registries, attackers.
# What the Pods take from each other is what is measured.
pods_first() {
  local group=/sys/fs/cgroup/cpu/$CGROUP/cpu.shares weight=65536
  [ -f "$group" ] || group=/sys/fs/cgroup/$CGROUP/cpu.weight weight=10000 # version 2 of cgroups
  echo $weight >"$group"
}

install_chart() {
  helm upgrade --install packgate "$root/charts/packgate" --namespace packgate-system --create-namespace --wait --timeout 3m -f - >/dev/null <<V
image: {repository: "${HOSTILE_IMAGE%@*}", digest: "${HOSTILE_IMAGE#*@}"}
controller: {replicas: 1}
webhook: {replicas: 1}
registries: [{host: "$REGISTRY", plainHTTP: true}]
V
}

# namespaces, and the attacker: somebody with ClusterRole edit in one of them
namespaces() {
  local name
  for name in attacker honest elsewhere; do
    kubectl create namespace "hostile-$name" --dry-run=client -o yaml | kubectl apply -f - >/dev/null
  done
  kubectl -n hostile-attacker create rolebinding tenant --clusterrole edit --user "$attacker" --dry-run=client -o yaml | kubectl apply -f - >/dev/null
}

# pack NAME [KEY]: a small bundle in the honest repository, signed if there is a key; prints REPOSITORY@DIGEST
pack() {
  local packed
  printf '%s\n' "$1" >"$1.txt"
  printf 'apiVersion: packgate.dev/v1alpha1\nkind: LockManifest\nname: %s\nartifacts: [{name: a, origin: %s.txt, target: a.txt}]\n' "$1" "$1" >"$1.yaml"
  "$HOSTILE_BINARY" lock --quiet "$1.yaml" -f "$1.lock.yaml" >/dev/null
  packed=$("$HOSTILE_BINARY" pack --quiet --plain-http "$1.lock.yaml" ${2:+--key "$2"} --to "$REGISTRY/hostile-honest/$1:v1")
  printf '%s@%s\n' "$REGISTRY/hostile-honest/$1" "${packed##*@}"
}

# pod NAMESPACE [REFERENCE]: a Pod that mounts it, or only runs the cluster's own image; no node takes it
pod() {
  local mount='' volume=''
  if [ -n "${2:-}" ]; then
    mount='"volumeMounts":[{"name":"b","mountPath":"/b"}],' volume="\"volumes\":[{\"name\":\"b\",\"image\":{\"reference\":\"$2\"}}],"
  fi
  cat <<J
{"apiVersion":"v1","kind":"Pod","metadata":{"generateName":"tried-","namespace":"$1"},"spec":{$volume
"nodeSelector":{"packgate.dev/nowhere":"true"},"containers":[{"name":"main",$mount"image":"$IMAGE"}]}}
J
}

# review NAMESPACE REFERENCE: what an API server sends for such a Pod
review() {
  cat <<J
{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"00000000-0000-0000-0000-000000000000",
"kind":{"group":"","version":"v1","kind":"Pod"},"resource":{"group":"","version":"v1","resource":"pods"},
"requestKind":{"group":"","version":"v1","kind":"Pod"},"requestResource":{"group":"","version":"v1","resource":"pods"},
"name":"honest","namespace":"$1","operation":"CREATE","userInfo":{"username":"bench","groups":["system:authenticated"]},
"object":$(pod "$1" "$2"),"oldObject":null,"dryRun":true,"options":{"apiVersion":"meta.k8s.io/v1","kind":"CreateOptions"}}}
J
}

honest_policy() {
  local pem
  COSIGN_PASSWORD='' "$HOSTILE_BINARY" keys generate --quiet >/dev/null
  pem=$(sed 's/^/          /' packgate.pub)
  kubectl -n hostile-honest apply -f - >/dev/null <<P
apiVersion: packgate.dev/v1alpha1
kind: BundlePolicy
metadata: {name: honest}
spec:
  match: {references: ["$REGISTRY/hostile-honest/**"], uses: [PackedBundle, ImageVolume]}
  authorities:
  - name: honest
    key:
      pem: |
$pem
P
  kubectl -n hostile-honest wait --for=condition=Enforced bundlepolicy/honest --timeout=60s >/dev/null
}

as_attacker() { kubectl --as "$attacker" -n hostile-attacker "$@"; }

# inputs: everything that the attacker sends, or lays out beforehand. What is refused when it is written is counted, and no fault.
inputs() {
  local evidence name refused=0
  say "making hostile input ..."
  "$hostile/evidence.py" "$REGISTRY" hostile-attacker/evidence --count "${HOSTILE_EVIDENCE:-256}" --size 4MiB >evidence.reference
  "$hostile/evidence.py" "$REGISTRY" hostile-attacker/keys --count 128 --size 256KiB >keys.reference
  for name in evidence keys; do
    evidence=$(cat "$name.reference")
    pod hostile-attacker "$evidence" >"$name.pod"
  done
  "$hostile/hosts.py" >hosts.list
  "$hostile/policies.py" lists "$REGISTRY/hostile-attacker/lists/**"
  "$hostile/keys.py" "$REGISTRY/hostile-attacker/keys" >keys.list
  # One policy of its own governs the image with much evidence.
  sed "s|registry-0.hostile.test/\*\*|$REGISTRY/hostile-attacker/evidence|; s|hosts-|evidence-|" <("$hostile/hosts.py" --count 1) >evidence.list
  "$hostile/locks.py" --artifacts 4500 --repository "$REGISTRY/hostile-attacker/locks" >inline.object
  for name in hosts.list lists/policies.json keys.list evidence.list; do
    as_attacker apply --server-side -f "$name" >/dev/null 2>>refused.log || refused=$((refused + 1))
  done
  for name in one two three; do
    "$hostile/locks.py" --artifacts 3000 --platforms 64 --stored --name "locks-$name" --repository "$REGISTRY/hostile-attacker/locks-$name" |
      as_attacker apply --server-side -f - >/dev/null 2>>refused.log || refused=$((refused + 1))
  done
  echo "$refused of 7" >policies.refused
}

# together COMMAND...: runs it beside the others; what it prints is kept as NAME.json
together() {
  local name=$1
  shift
  "$@" >"$name.json" 2>"$name.log" &
  children+=($!)
}

# attack NAME COMMAND...: the same for what would come from other machines: it leaves the processor to those that are measured
attack() { [[ " $attacks " != *" $1 "* ]] || together "$1" with_priority 19 "${@:2}"; }

# with_priority NICE COMMAND...: of a session of its own, because the kernel shares the processor between sessions first (sched(7), autogroup)
with_priority() {
  # shellcheck disable=SC2016
  exec setsid --wait bash -c 'if [ -w /proc/self/autogroup ]; then echo "$0" >/proc/self/autogroup; fi; exec nice -n "$0" "$@"' "$@"
}

# watcher ARGUMENT...: who measures never waits for the processor itself: it stands for an API server on another machine
watcher() { with_priority -20 "$HOSTILE_CLIENT" "$@"; }

# pid_of COMPONENT: its process
pid_of() { pgrep -f "packgate $1( |\$)" | head -n 1; }

restarts() { kubectl -n packgate-system get pods -l "app.kubernetes.io/component=$1" -o jsonpath='{.items[0].status.containerStatuses[0].restartCount}'; }

under_attack() {
  local mine=/api/v1/namespaces/hostile-attacker theirs=$((proxies + 1)) bundles=/apis/packgate.dev/v1alpha1/namespaces/hostile-attacker/packedbundles
  local address pid before
  address=$(kubectl -n packgate-system get service packgate-webhook -o jsonpath='{.spec.clusterIP}')
  kubectl -n packgate-system logs -f deployment/packgate-webhook >webhook.log 2>/dev/null &
  children+=($!)
  before=${#children[@]}
  together memory-webhook "$hostile/memory.py" "$(pid_of webhook)" "$seconds"
  together memory-controller "$hostile/memory.py" "$(pid_of controller)" "$seconds"
  together honest watcher watch "$1" ca.crt packgate-webhook.packgate-system.svc "$seconds" 20 warm.json
  together unsigned "$hostile/attack.py" $proxies '/api/v1/namespaces/hostile-honest/pods?dryRun=All' unsigned.pod --seconds "$seconds" --every 1
  together elsewhere "$hostile/attack.py" $proxies '/api/v1/namespaces/hostile-elsewhere/pods?dryRun=All' elsewhere.pod --seconds "$seconds" --every 1
  attack evidence "$hostile/attack.py" $theirs "$mine/pods?dryRun=All" evidence.pod --seconds "$seconds" --parallel 4
  attack inline "$hostile/attack.py" $theirs "$bundles?dryRun=All" inline.object --seconds "$seconds" --parallel 5
  attack lists "$hostile/attack.py" $theirs "$mine/configmaps/hostile-crl" lists/list-1.json lists/list-0.json --method PUT --seconds "$seconds"
  attack keys "$hostile/attack.py" $theirs "$mine/pods?dryRun=All" keys.pod --seconds "$seconds" --parallel 4
  attack connections "$hostile/connections.py" "$address" 443 --seconds "$seconds"
  for pid in "${children[@]:before}"; do wait "$pid" || die "one of the measurements failed: $(tail -n 3 ./*.log)"; done
}

inside() {
  local here url
  here=${HOSTILE_RESULTS:-$(mktemp -d)}
  mkdir -p "$here"
  cd "$here" || exit 1
  trap finish EXIT
  export COSIGN_PASSWORD='' HOME=$here
  install_chart
  namespaces
  honest_policy
  kubectl -n packgate-system get secret packgate-webhook-tls -o jsonpath='{.data.ca\.crt}' | base64 -d >ca.crt
  url=https://$(kubectl -n packgate-system get service packgate-webhook -o jsonpath='{.spec.clusterIP}'):443/uses
  review hostile-honest "$(pack signed packgate.key)" >warm.json
  pod hostile-honest "$(pack unsigned)" >unsigned.pod
  pod hostile-elsewhere >elsewhere.pod
  kubectl proxy --port $proxies >/dev/null &
  children+=($!)
  with_priority 19 kubectl --as "$attacker" proxy --port $((proxies + 1)) >/dev/null &
  children+=($!)
  "$HOSTILE_CLIENT" ask "$url" ca.crt packgate-webhook.packgate-system.svc 100 1 warm.json >/dev/null
  (watcher watch "$url" ca.crt packgate-webhook.packgate-system.svc "$((seconds < 30 ? seconds : 30))" 20 warm.json) >quiet.json
  inputs
  say "attacking for $seconds s ..."
  under_attack "$url"
  printf '%s %s\n' "$(restarts webhook)" "$(restarts controller)" >restarts
  grep -c '"namespace":"hostile-elsewhere"' webhook.log >elsewhere.seen || true
  "$hostile/report.py" .
}

if [ -n "${PACKGATE_CLUSTER_INSIDE:-}" ]; then inside "$@"; else outside; fi
