# shellcheck shell=bash disable=SC2034
# env.sh: paths, addresses and small functions. Source it. What other programs may rely on is in README.md.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

CACHE=${PACKGATE_CLUSTER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/packgate/cluster} # programs and packages; survives
STATE=${PACKGATE_CLUSTER_STATE:-$CACHE/state}                                     # one cluster; removed by down.sh
[[ $CACHE$STATE != *[[:space:]]* && $CACHE = /* && $STATE = /* ]] || { echo "PACKGATE_CLUSTER_CACHE and _STATE must be absolute paths without spaces" >&2; exit 2; }
export PACKGATE_CLUSTER_CACHE=$CACHE PACKGATE_CLUSTER_STATE=$STATE
BIN=$CACHE/bin
TOOLS=$here/../../tools/get.sh
SERVE_SIGSTORE=$here/../../tools/sigstore/serve.sh
LOG=$STATE/log
REQUESTS=$STATE/requests
PKI=$STATE/pki
PIDS=$STATE/pid
CGROUP=packgate-$(printf %s "$STATE" | sha256sum | cut -c1-8)
RECORD=$CACHE/record/$CGROUP # what the machine looked like before; leftovers.sh compares

# Addresses inside of the cluster's own network. The node's is an alias on lo: local to the namespace, yet outside of 127/8,
# which Kubernetes refuses as the address of a node or endpoint.
NODE=node1
NODE_IP=10.200.0.1
SERVICE_CIDR=10.96.0.0/16
API_SERVICE_IP=10.96.0.1
DNS_SERVICE_IP=10.96.0.10
POD_CIDR=10.88.0.0/16
API=https://$NODE_IP:6443
REGISTRY=registry.test:5000                         # with the referrers API
PLAIN=plain.test:5001                               # without
ISSUER=https://kubernetes.default.svc.cluster.local # of service account tokens
SIGSTORE=sigstore.test                               # where a private Sigstore is, if one was asked for
COMPONENTS=(etcd apiserver controller-manager scheduler registry plain containerd kubelet proxy dns sigstore)

now() { date +%s%N; }
since() { local ms=$((($(now) - $1) / 1000000)); printf '%d.%02d s' $((ms / 1000)) $((ms % 1000 / 10)); }
say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }
skip() { say "skip: $*"; exit 77; } # this machine cannot

# existing: does somebody else's cluster take the place of ours?
existing() { [ "${PACKGATE_USE_CLUSTER:-0}" = 1 ]; }
only_ours() { ! existing || skip "$(basename "$0") cannot do this to an existing cluster (PACKGATE_USE_CLUSTER=1)"; }

# running: is our cluster up? (Its pid alone would not tell: it may be another process's by now.)
running() { [ -f "$STATE/ns.started" ] && [ "$(started "$(cat "$STATE/ns.pid")")" = "$(cat "$STATE/ns.started")" ]; }

# started PROCESS: when it was started, in clock ticks since boot, and in which boot
started() { printf '%s %s' "$(cut -d' ' -f22 "/proc/$1/stat" 2>/dev/null)" "$(cat /proc/sys/kernel/random/boot_id)"; }

# inside "$@": run the calling script again in the cluster's namespaces, unless it is there already
inside() { [ -n "${PACKGATE_CLUSTER_INSIDE:-}" ] || exec "$here/exec.sh" "$(realpath "$0")" "$@"; }

# exclusively: one up.sh or down.sh of one cluster at a time. Whatever is to outlive the caller must be started with 8>&-.
exclusively() {
  mkdir -p "$CACHE/lock"
  exec 8>"$CACHE/lock/$CGROUP"
  flock -n 8 || { say "waiting for another up.sh or down.sh ..."; flock 8; }
}

# bg NAME COMMAND...: start in the background; log and pid file under $STATE
bg() {
  local name=$1; shift
  mkdir -p "$LOG" "$PIDS"
  setsid "$@" >>"$LOG/$name.log" 2>&1 </dev/null 8>&- &
  echo $! >"$PIDS/$name"
}

# alive NAME: does a process that bg started still run?
alive() { [ -f "$PIDS/$1" ] && kill -0 "$(cat "$PIDS/$1")" 2>/dev/null; }

# wait_for SECONDS NAME COMMAND...: poll; when NAME (started by bg) dies or the time is up, show its log and fail
wait_for() {
  local end=$((SECONDS + $1)) name=$2; shift 2
  until "$@" >/dev/null 2>&1; do
    alive "$name" || { tail -n 20 "$LOG/$name.log" >&2; die "$name ended"; }
    [ $SECONDS -lt $end ] || { tail -n 20 "$LOG/$name.log" >&2; die "$name: not ready in time; more in $LOG/$name.log"; }
    sleep 0.05
  done
}

# until_true SECONDS COMMAND...: poll; fails when the time is up
until_true() {
  local end=$((SECONDS + $1)); shift
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $end ] || return 1
    sleep 0.1
  done
}

# deb_program NAME: the path of a program from the Debian packages
deb_program() { printf %s "$CACHE/debian/current/bin/$1"; }

PATH=$STATE/bin:$BIN:$("$TOOLS" --bin):$PATH # the first is the quick start's, for packgate itself
export PATH
export PACKGATE_CLUSTER_REGISTRY PACKGATE_CLUSTER_PLAIN_REGISTRY PACKGATE_CLUSTER_IMAGE
if existing; then
  [ -n "${KUBECONFIG:-}" ] || die "PACKGATE_USE_CLUSTER=1 needs KUBECONFIG"
  REGISTRY=${PACKGATE_CLUSTER_REGISTRY:-}
  PLAIN=${PACKGATE_CLUSTER_PLAIN_REGISTRY:-}
  IMAGE=${PACKGATE_CLUSTER_IMAGE:-${REGISTRY:+$REGISTRY/packgate-test/busybox:1}}
  export PACKGATE_CLUSTER=existing
  unset PACKGATE_CLUSTER_REGISTRY_LOG PACKGATE_CLUSTER_PLAIN_REGISTRY_LOG PACKGATE_CLUSTER_PKI PACKGATE_CLUSTER_SIGSTORE
else
  IMAGE=$PLAIN/busybox:1
  export PACKGATE_CLUSTER=own KUBECONFIG=$STATE/admin.kubeconfig
  export PACKGATE_CLUSTER_REGISTRY_LOG=$REQUESTS/registry.jsonl PACKGATE_CLUSTER_PLAIN_REGISTRY_LOG=$REQUESTS/plain.jsonl
  export PACKGATE_CLUSTER_NODE_IP=$NODE_IP PACKGATE_CLUSTER_PKI=$PKI PACKGATE_CLUSTER_SIGSTORE=$STATE/sigstore
fi
PACKGATE_CLUSTER_REGISTRY=$REGISTRY PACKGATE_CLUSTER_PLAIN_REGISTRY=$PLAIN PACKGATE_CLUSTER_IMAGE=$IMAGE
