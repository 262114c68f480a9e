#!/bin/bash
# restart.sh [--kill] NAME [FLAG...]: stop one component of the cluster, start it again and wait until it is ready. Flags are added
# to its command line for this run; without them it runs as up.sh started it. --kill: SIGKILL, as in a crash (and quick: etcd and
# apiserver take 7 to 9 s to end in good order).
#
#   restart.sh --kill apiserver
#   restart.sh registry -fail '503x3 PUT ^/v2/.*/manifests/'
#
# Names: etcd apiserver controller-manager scheduler registry plain containerd kubelet proxy dns sigstore. The registry forgets all that
# was pushed to it; plain does not. Containers go on running without containerd and kubelet. Sigstore keeps its keys and Rekor v2 its log.
# shellcheck source=env.sh
. "$(dirname "$0")/env.sh"
only_ours
inside "$@"
kill=()
if [ "${1:-}" = --kill ]; then kill=(--kill); shift; fi
[ $# -gt 0 ] || die "usage: restart.sh [--kill] NAME [FLAG...]; names: ${COMPONENTS[*]}"
"$here/stop.sh" "${kill[@]}" "$1"
"$here/node/start.sh" "$@"
