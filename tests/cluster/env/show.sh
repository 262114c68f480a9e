#!/bin/bash
# show.sh [NAMESPACE]: what to look at when a test failed: Pods and Jobs, events, logs of containers that did not end well, and the
# last lines of the components' logs. Never fails.
# shellcheck source=env.sh
. "$(dirname "$0")/env.sh"
inside "$@"
set +e
scope=(--all-namespaces)
[ -z "${1:-}" ] || scope=(--namespace "$1")
title() { printf '\n== %s\n' "$*"; }

title Pods and Jobs
kubectl get pods,jobs "${scope[@]}" -o wide
title Events
kubectl get events "${scope[@]}" --sort-by=.lastTimestamp | tail -n 40
kubectl get pods "${scope[@]}" --no-headers -o custom-columns=NS:.metadata.namespace,NAME:.metadata.name,PHASE:.status.phase |
  while read -r ns name phase; do
    [ "$phase" = Succeeded ] && continue
    title "Log of pod $ns/$name ($phase)"
    kubectl -n "$ns" logs "$name" --all-containers --prefix --tail=30
  done
existing && exit 0
for name in "${COMPONENTS[@]}"; do
  alive "$name" || [ ! -f "$PIDS/$name" ] || title "$name does not run"
done
for f in "$LOG"/{registry,plain,kubelet,containerd,controller-manager,sigstore}.log "$STATE/sigstore/log/fulcio"; do
  [ -s "$f" ] && title "End of $f" && tail -n 10 "$f"
done
exit 0
