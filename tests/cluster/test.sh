#!/bin/bash
# test.sh [FILTER...]: run the tests in tests/cluster in a cluster of their own, and remove it. FILTER: names of tests, or parts of them.
# Tests in the module `alone` change what the others rely on: they run after them, one at a time.
#
#   PACKGATE_REQUIRE_CLUSTER=1   a machine that cannot run a cluster is a failure, not a reason to skip
#   PACKGATE_KEEP_CLUSTER=1      leave the cluster up, and take one that is up; for developers
#   PACKGATE_USE_CLUSTER=1       test in an existing cluster (env/README.md); what was installed there is removed
#   PACKGATE_IMAGE_PROFILE=dev   test a debug build
#
# Its state lies beside that of `make cluster-up` and `make quickstart`, so that it disturbs neither.
self=$(realpath "${BASH_SOURCE[0]}")
PACKGATE_CLUSTER_STATE=${PACKGATE_CLUSTER_STATE:-${PACKGATE_CLUSTER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/packgate/cluster}/state}
PACKGATE_CLUSTER_STATE=$PACKGATE_CLUSTER_STATE-test-$(sha256sum <<<"$self" | cut -c1-8) # one checkout, one cluster
# shellcheck source=env/env.sh
. "$(dirname "$self")/env/env.sh"
tests=$(dirname "$self")
root=$(cd "$tests/../.." && pwd)
threads=${PACKGATE_TEST_THREADS:-4} # they wait most of the time

# not_run WHY: no test was run
not_run() {
  [ "${PACKGATE_REQUIRE_CLUSTER:-0}" != 1 ] || die "the cluster tests must run (PACKGATE_REQUIRE_CLUSTER=1), but $1"
  say "cluster tests: not run, $1"
  echo "test result: ok. 0 passed; 0 failed; $(find "$tests" -name '*.rs' ! -path '*/support/*' -exec grep -h '^#\[test\]' {} + | wc -l) ignored"
  exit 0
}

finish() {
  local status=$?
  trap - EXIT
  if existing; then
    [ -z "${ours:-}" ] || uninstall
  elif [ "${PACKGATE_KEEP_CLUSTER:-0}" = 1 ]; then
    say "the cluster stays up: PACKGATE_CLUSTER_STATE=$STATE make cluster-shell"
  else
    { "$here/down.sh" && "$here/leftovers.sh"; } || status=1
  fi
  exit "$status"
}

# uninstall: what the tests installed in a cluster that stays
uninstall() {
  local kinds
  helm uninstall packgate --namespace packgate-system --ignore-not-found --wait >&2 || true
  kubectl delete namespace packgate-system --ignore-not-found >&2 || true
  mapfile -t kinds < <(kubectl get customresourcedefinitions -o name | grep '\.packgate\.dev$')
  [ ${#kinds[@]} = 0 ] || kubectl delete "${kinds[@]}" >&2 || true
}

start=$(now)
trap finish EXIT
trap 'exit 130' INT TERM
[ "${PACKGATE_KEEP_CLUSTER:-0}" = 1 ] || "$here/down.sh" 2>/dev/null # what an earlier run may have left
"$here/up.sh" node sigstore || {
  status=$?
  [ $status = 77 ] || exit $status
  not_run "this machine cannot run a cluster (tests/cluster/env/README.md)"
}
if existing; then
  ! kubectl get namespace packgate-system >/dev/null 2>&1 || die "there is a namespace packgate-system in this cluster; the tests would change the packgate that it runs"
  ours=1
fi
"$TOOLS" cosign crane oras test-registry
image=$("$tests/image.sh")
PACKGATE_TEST_IMAGE=$("$tests/push-image.sh" "$image")
cd "$root"
program=$(cargo test --locked --no-run --test cluster --message-format=json | sed -n 's/.*"name":"cluster".*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)
[ -x "$program" ] || die "cargo did not build the tests"
say "cluster, image and tests are ready: $(since "$start")"
start=$(now)
export PACKGATE_TEST_IMAGE PACKGATE_REQUIRE_CLUSTER=1

# run TITLE FLAG...: run the tests, pass on what they print, and keep their counts
counts=()
run() {
  local status=0 output
  output=$(mktemp)
  "$here/exec.sh" "$program" "${@:2}" | tee "$output" || status=1
  counts+=("$1: $(sed -n 's/^test result: //p' "$output" | grep . || echo "they did not come to their end")")
  rm "$output"
  return $status
}

status=0
run "side by side" --test-threads="$threads" --skip alone:: "$@" || status=1
mapfile -t alone < <("$program" --list --format terse "$@" | sed -n 's/^\(alone::.*\): test$/\1/p')
for flag in "$@"; do # filters are in the list of names already
  case $flag in --nocapture | --show-output) alone+=("$flag") ;; esac
done
[[ ${alone[0]:-} != alone::* ]] || run "alone" --test-threads=1 --exact "${alone[@]}" || status=1
for line in "${counts[@]}"; do say "cluster tests, $line"; done
say "cluster tests: $(since "$start")"
[ $status = 0 ]
