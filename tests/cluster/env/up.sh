#!/bin/bash
# up.sh [node|control-plane] [sigstore]: bring up the test cluster (default: node, with everything; control-plane runs no pods), and
# with it a private Sigstore. Builds what is missing. Run again, it starts whatever has stopped, and a Sigstore if there was none. Exit
# status 77: this machine cannot run it.
# shellcheck source=env.sh
. "$(dirname "$0")/env.sh"
mode=${1:-node}
more=${2:-}
[[ ($mode = node || $mode = control-plane) && ($more = '' || $more = sigstore) ]] || die "usage: up.sh [node|control-plane] [sigstore]"
! existing || exec "$here/existing.sh"
[ "$(uname -s)" = Linux ] || skip "needs Linux"
[ "$(id -u)" = 0 ] || skip "needs root (namespaces, mounts, cgroups)"
case $STATE/,$here/ in /run/* | *,/run/*) skip "neither the checkout nor PACKGATE_CLUSTER_STATE may lie under /run" ;; esac
for c in unshare nsenter setsid ip openssl curl flock; do command -v $c >/dev/null || skip "needs $c"; done

start=$(now)
"$here/build.sh"
[ -z "$more" ] || "$here/build.sh" "$more"
say "programs ready: $(since "$start")"
exclusively
start=$(now)
if running; then
  [ "$(cat "$STATE/made-by")" = "$here $mode" ] || die "up already, made by $(cat "$STATE/made-by"): run $here/down.sh first"
else
  PACKGATE_CLUSTER_LOCKED=1 "$here/down.sh" 2>/dev/null
  "$here/leftovers.sh" --record
  mkdir -p "$LOG" "$REQUESTS"
  echo "$here $mode" >"$STATE/made-by"
  # The first process of the namespaces: when it is killed, the kernel removes processes, mounts and network with it.
  setsid unshare --mount --net --pid --fork --kill-child --propagation private --mount-proc "$here/node/init.sh" >"$LOG/init.log" 2>&1 </dev/null 8>&- &
  u=$!
  trap 'kill $u 2>/dev/null' EXIT
  until_true 10 test -f "$STATE/ready" || { cat "$LOG/init.log" >&2; skip "namespaces, mounts or addresses cannot be made here"; }
  tr -d ' ' <"/proc/$u/task/$u/children" >"$STATE/ns.pid"
  started "$(cat "$STATE/ns.pid")" >"$STATE/ns.started"
  "$here/leftovers.sh" --record-namespaces
fi
trap '[ $? = 0 ] || say "up.sh failed; logs are in $LOG; down.sh cleans up"' EXIT
"$here/exec.sh" "$here/node/up.sh" "$mode" "$more"
say "$mode up: $(since "$start"). Run commands in it with $here/exec.sh, e.g. exec.sh kubectl get nodes"
