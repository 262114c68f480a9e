#!/bin/bash
# smoke/restart.sh: every component can be restarted, and killed; a Pod lives through all of it, and afterwards a new one runs
# shellcheck source=../env.sh
. "$(dirname "$0")/../env.sh"
inside "$@"
ns=smoke-restart-$RANDOM
kubectl create namespace $ns >/dev/null; trap 'kubectl delete namespace $ns --wait=false >/dev/null' EXIT
t=$(now)
run() { # NAME COMMAND
  until_true 10 kubectl -n $ns get serviceaccount default || die "no ServiceAccount: is the controller manager at work?"
  kubectl -n $ns run "$1" --image="$IMAGE" --restart=Never --command -- sh -c "$2" >/dev/null
}
run before 'sleep 1000'
kubectl -n $ns wait --for=condition=Ready pod/before --timeout=30s >/dev/null
uid=$(kubectl -n $ns get pod before -o jsonpath='{.status.containerStatuses[0].containerID}')
for name in "${COMPONENTS[@]}"; do
  case $name in # these two take 7 to 9 s to end in good order
    etcd | apiserver) ;;
    *) "$here/restart.sh" "$name" ;;
  esac
done
for name in etcd apiserver kubelet containerd; do "$here/restart.sh" --kill "$name"; done

# flags are for one run: this registry fails once, and not at all after the next restart
status() { curl -s -o /dev/null -w '%{http_code}' "http://$REGISTRY/v2/"; }
"$here/restart.sh" registry -fail '503 * ^/v2/$'
[ "$(status)" = 503 ] || die "the registry does not fail as it was told to"
"$here/restart.sh" registry
[ "$(status)" = 200 ] || die "the registry fails after a restart without flags"

"$here/stop.sh" plain
! curl -s "http://$PLAIN/v2/" || die "plain answers after it was stopped"
"$here/restart.sh" plain

run after 'nslookup kubernetes.default.svc.cluster.local >/dev/null && echo well'
kubectl -n $ns wait --for=jsonpath='{.status.phase}'=Succeeded pod/after --timeout=60s >/dev/null || { kubectl -n $ns describe pod after >&2; die "no Pod runs after the restarts"; }
[ "$(kubectl -n $ns logs after)" = well ] || die "the Pod after the restarts printed: $(kubectl -n $ns logs after)"
[ "$(kubectl -n $ns get pod before -o jsonpath='{.status.phase} {.status.containerStatuses[0].containerID} {.status.containerStatuses[0].restartCount}')" = "Running $uid 0" ] ||
  die "the Pod from before the restarts did not live through them"
say "ok restarts: $(since "$t")"
