#!/bin/bash
# test.sh [FILTER...]: run the tests in tests/cluster in clusters of their own, and remove these. FILTER: names of tests, or parts of them.
# Tests in the module `alone` change what the others rely on: they run one at a time in a second cluster, while the others run in the first.
# Where there is only one cluster (KEEP, USE), they run after them.
#
#   PACKGATE_REQUIRE_CLUSTER=1   a machine that cannot run a cluster is a failure, not a reason to skip
#   PACKGATE_KEEP_CLUSTER=1      leave the cluster up, and take one that is up; for developers
#   PACKGATE_ONE_CLUSTER=1       one cluster for all, for machines with little memory (a cluster takes 3 GB)
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
keep=${PACKGATE_KEEP_CLUSTER:-0}
states=("$STATE")
if [ "$keep" = 0 ] && ! existing && [ "${PACKGATE_ONE_CLUSTER:-0}" = 0 ]; then states+=("$STATE-alone"); fi

# not_run WHY: no test was run
not_run() {
  [ "${PACKGATE_REQUIRE_CLUSTER:-0}" != 1 ] || die "the cluster tests must run (PACKGATE_REQUIRE_CLUSTER=1), but $1"
  say "cluster tests: not run, $1"
  echo "test result: ok. 0 passed; 0 failed; $(find "$tests" -name '*.rs' ! -path '*/support/*' -exec grep -h '^#\[test\]' {} + | wc -l) ignored"
  exit 0
}

# take_down STATE
take_down() { PACKGATE_CLUSTER_STATE=$1 "$here/down.sh" && PACKGATE_CLUSTER_STATE=$1 "$here/leftovers.sh"; }

finish() {
  local status=$? state
  trap - EXIT
  if existing; then
    [ -z "${ours:-}" ] || uninstall
  elif [ "$keep" = 1 ]; then
    say "the cluster stays up: PACKGATE_CLUSTER_STATE=$STATE make cluster-shell"
  else
    for state in "${states[@]}"; do take_down "$state" || status=1; done
  fi
  [ -z "${output:-}" ] || rm -r "$output"
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
if [ "$keep" = 0 ]; then # what an earlier run may have left
  for state in "${states[@]}"; do PACKGATE_CLUSTER_STATE=$state "$here/down.sh" 2>/dev/null; done
fi
"$here/up.sh" node sigstore || { # first: a machine that cannot run one should not build for ten minutes
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
cd "$root"
program=$(cargo test --locked --no-run --test cluster --message-format=json | sed -n 's/.*"name":"cluster".*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)
[ -x "$program" ] || die "cargo did not build the tests"
mapfile -t together < <("$program" --list --format terse --skip alone:: "$@" | sed -n 's/: test$//p')
mapfile -t alone < <("$program" --list --format terse "$@" | sed -n 's/^\(alone::.*\): test$/\1/p')
[ ${#together[@]} != 0 ] && [ ${#alone[@]} != 0 ] || states=("$STATE")
flags=() # filters are in the lists of names already
for flag in "$@"; do
  case $flag in --nocapture | --show-output) flags+=("$flag") ;; esac
done
say "cluster, image and tests are ready: $(since "$start")"
start=$(now)
output=$(mktemp -d)

# suite TITLE STATE FLAG...: run tests in the cluster of STATE; prints what they print, and keeps their end in a file
suite() {
  local begun status=0
  begun=$(now)
  PACKGATE_CLUSTER_STATE=$2 "$tests/suite.sh" "$image" "$program" "${@:3}" | tee "$output/$1" || status=1
  echo "$1: $(sed -n 's/^test result: //p' "$output/$1" | grep . || echo "they did not come to their end"), in $(since "$begun")" >"$output/$1.end"
  return $status
}

side_by_side() { [ ${#together[@]} = 0 ] || suite together "$STATE" --test-threads="$threads" "${flags[@]}" --exact "${together[@]}"; }
one_at_a_time() { [ ${#alone[@]} = 0 ] || suite alone "${states[-1]}" --test-threads=1 "${flags[@]}" --exact "${alone[@]}"; }

status=0
if [ ${#states[@]} = 1 ]; then
  side_by_side || status=1
  one_at_a_time || status=1
else
  one_at_a_time >"$output/alone.all" 2>&1 & # shown when the others are through
  second=$!
  side_by_side || status=1
  tail --pid=$second -n +1 -f "$output/alone.all"
  wait $second || status=1
fi
for end in "$output"/*.end; do say "cluster tests, $(cat "$end")"; done
say "cluster tests: $(since "$start")"
[ $status = 0 ]
