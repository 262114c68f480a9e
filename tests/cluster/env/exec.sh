#!/bin/bash
# exec.sh COMMAND...: run a command inside of the cluster's namespaces (its addresses, its DNS, no internet), with KUBECONFIG, PATH
# and the variables of README.md; its exit status is passed on. The test program runs in here too, so that API server and
# pods reach the servers that it starts. With an existing cluster: the same variables, no namespaces.
# shellcheck source=env.sh
. "$(dirname "$0")/env.sh"
[ $# -gt 0 ] || die "usage: exec.sh COMMAND..."
[ -z "${PACKGATE_CLUSTER_INSIDE:-}" ] || exec "$@"
export PACKGATE_CLUSTER_INSIDE=1
! existing || exec "$@"
running || die "no cluster is up: run $here/up.sh"
unset http_proxy https_proxy all_proxy no_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY # there is nothing they could lead to
exec nsenter -t "$(cat "$STATE/ns.pid")" -m -n -p --wd="$PWD" -- "$@"
