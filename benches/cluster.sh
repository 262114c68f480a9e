#!/bin/bash
# cluster.sh: how long a PackedBundle of 10 MiB takes from kubectl apply to Ready (A), beside what the cluster itself takes for two empty
# Jobs one after the other (B): a bundle is two Jobs, and how fast a cluster starts Pods is not ours. Five pairs, A B A B, and their
# medians. Promised: A under 20 s, A - B at most 6 s.
#
#   PACKGATE_KEEP_CLUSTER=1      leave the cluster up, and take one that is up
#   BENCH_RUNS=5                 pairs that count; one more goes first and warms caches
#
# It brings up a cluster of its own (tests/cluster/env/README.md) beside those of the tests, and removes it.
self=$(realpath "${BASH_SOURCE[0]}")
root=$(dirname "$(dirname "$self")")
[ -n "${PACKGATE_CLUSTER_INSIDE:-}" ] ||
  PACKGATE_CLUSTER_STATE=${PACKGATE_CLUSTER_STATE:-${PACKGATE_CLUSTER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/packgate/cluster}/state}-bench
# shellcheck source-path=SCRIPTDIR source=../tests/cluster/env/env.sh
. "$root/tests/cluster/env/env.sh"
runs=${BENCH_RUNS:-5}
size=$((10 << 20))
namespace=bench

# shellcheck disable=SC2317 # called by trap
finish() {
  local status=$?
  trap - EXIT
  [ "${PACKGATE_KEEP_CLUSTER:-0}" = 1 ] || { "$root/tests/cluster/env/down.sh" && "$root/tests/cluster/env/leftovers.sh"; } || status=1
  exit "$status"
}

outside() {
  only_ours
  trap finish EXIT
  trap 'exit 130' INT TERM
  "$root/tests/cluster/env/up.sh"
  local layout
  layout=$("$root/tests/cluster/image.sh")
  "$TOOLS" crane test-registry
  BENCH_BINARY=$("$root/tests/cluster/image.sh" --binary 2>/dev/null) BENCH_IMAGE=$("$root/tests/cluster/push-image.sh" "$layout") \
    "$root/tests/cluster/env/exec.sh" "$self"
}

install_chart() {
  helm upgrade --install packgate "$root/charts/packgate" --namespace packgate-system --create-namespace --wait --timeout 3m -f - >/dev/null <<V
image: {repository: "${BENCH_IMAGE%@*}", digest: "${BENCH_IMAGE#*@}"}
registries: [{host: "$REGISTRY", plainHTTP: true}]
V
}

# prepare: a file of random bytes in the registry, and a lock of it
prepare() {
  local digest stored
  kubectl create namespace $namespace --dry-run=client -o yaml | kubectl apply -f - >/dev/null
  head -c $size /dev/urandom >file.bin
  digest=sha256:$(sha256sum file.bin | cut -d' ' -f1)
  cat >files.yaml <<M
apiVersion: packgate.dev/v1alpha1
kind: LockManifest
name: files
artifacts: [{name: file, origin: file.bin, target: data/file.bin}]
M
  "$BENCH_BINARY" lock --quiet files.yaml -f files.lock.yaml >/dev/null
  stored=$("$BENCH_BINARY" pack --quiet --plain-http files.lock.yaml --format Artifact --to "$REGISTRY/$namespace/files:v1")
  cat >bundle.yaml <<M
apiVersion: packgate.dev/v1alpha1
kind: LockManifest
name: bundle
artifacts: [{name: file, origin: "oci://$stored", target: data/file.bin, oci: {blob: "$digest"}}]
M
  "$BENCH_BINARY" lock --quiet --plain-http bundle.yaml -f lock.yaml >/dev/null
  kubectl -n $namespace create configmap lock --from-file=lock.yaml --dry-run=client -o yaml | kubectl -n $namespace apply -f - >/dev/null
}

# bundle NUMBER: one PackedBundle, in a repository that nobody has pushed to
bundle() {
  kubectl -n $namespace apply -f - >/dev/null <<M
apiVersion: packgate.dev/v1alpha1
kind: PackedBundle
metadata: {name: "$1"}
spec:
  source: {configMapRef: {name: lock}}
  destination: {repository: "$REGISTRY/$namespace/$1"}
M
  kubectl -n $namespace wait --for=condition=Ready "packedbundle/$1" --timeout=3m >/dev/null
}

# job NAME: one Job that does nothing
job() {
  kubectl -n $namespace apply -f - >/dev/null <<M
apiVersion: batch/v1
kind: Job
metadata: {name: "$1"}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      automountServiceAccountToken: false
      containers: [{name: main, image: "$IMAGE", command: ["true"]}]
M
  kubectl -n $namespace wait --for=condition=Complete "job/$1" --timeout=3m >/dev/null
}

two_jobs() { job "$1-first"; job "$1-second"; }

# took COMMAND...: its time, in milliseconds
took() {
  local begin
  begin=$(now)
  "$@" || die "$*: failed; the cluster stays up with PACKGATE_KEEP_CLUSTER=1"
  echo $((($(now) - begin) / 1000000))
}

median() { sort -n | awk '{ v[NR] = $1 } END { printf "%.2f", (NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2) / 1000 }'; }

measure() {
  local i a b mark=$RANDOM as='' bs='' differences=''
  echo "cluster: a PackedBundle of 10 MiB, apply to Ready (A), against two empty Jobs one after the other (B)"
  for ((i = 0; i <= runs; i++)); do
    a=$(took bundle "bundle-$mark-$i")
    b=$(took two_jobs "empty-$mark-$i")
    [ "$i" -gt 0 ] || continue # warms caches
    as+=$a$'\n' bs+=$b$'\n' differences+=$((a - b))$'\n'
    printf '  pair %d  A %d ms  B %d ms  A-B %d ms\n' "$i" "$a" "$b" $((a - b))
  done
  printf '  medians  A %s s (promised: under 20)  B %s s  A-B %s s (promised: at most 6)\n' \
    "$(median <<<"${as%$'\n'}")" "$(median <<<"${bs%$'\n'}")" "$(median <<<"${differences%$'\n'}")"
}

if [ -z "${PACKGATE_CLUSTER_INSIDE:-}" ]; then
  outside
else
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  export HOME=$work DOCKER_CONFIG=$work
  cd "$work" || exit 1
  install_chart
  prepare
  measure
fi
