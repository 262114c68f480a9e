#!/bin/bash
# webhook.sh: how long the webhook takes for a verdict, asked over TLS at its Service as an API server asks, beside a webhook that does
# nothing, in the same run.
#
#   warm   the same signed and attested bundle again and again, in pairs A B A B (A: packgate, B: does nothing). Promised: the median of A at
#          most 5 times that of B, at least 800 a second, no registry request, and no request to the API server
#   cold   bundles that nobody asked about before, in a registry on this machine. Promised: at most 4 registry requests, median under 15 ms
#   memory of the process after 10,000 verdicts. Promised: under 48 MiB
#
#   PACKGATE_KEEP_CLUSTER=1      leave the cluster up, and take one that is up
#   BENCH_RUNS=5                 pairs that count; one more goes first
self=$(realpath "${BASH_SOURCE[0]}")
root=$(dirname "$(dirname "$self")")
[ -n "${PACKGATE_CLUSTER_INSIDE:-}" ] ||
  PACKGATE_CLUSTER_STATE=${PACKGATE_CLUSTER_STATE:-${PACKGATE_CLUSTER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/packgate/cluster}/state}-bench
# shellcheck source-path=SCRIPTDIR source=../tests/cluster/env/env.sh
. "$root/tests/cluster/env/env.sh"
runs=${BENCH_RUNS:-5}
namespace=bench
cold=60

# shellcheck disable=SC2317 # called by trap
finish() {
  local status=$?
  trap - EXIT
  [ -z "${peer:-}" ] || kill "$peer" 2>/dev/null || true
  [ -n "${PACKGATE_CLUSTER_INSIDE:-}" ] || [ "${PACKGATE_KEEP_CLUSTER:-0}" = 1 ] ||
    { "$root/tests/cluster/env/down.sh" && "$root/tests/cluster/env/leftovers.sh"; } || status=1
  exit "$status"
}

outside() {
  only_ours
  trap finish EXIT
  trap 'exit 130' INT TERM
  "$root/tests/cluster/env/up.sh"
  local layout client
  layout=$("$root/tests/cluster/image.sh")
  client=$(mktemp -d)/webhook
  go -C "$root/benches/webhook" build -o "$client" .
  "$TOOLS" crane test-registry
  BENCH_BINARY=$("$root/tests/cluster/image.sh" --binary 2>/dev/null) BENCH_IMAGE=$("$root/tests/cluster/push-image.sh" "$layout") BENCH_CLIENT=$client \
    "$root/tests/cluster/env/exec.sh" "$self"
}

install_chart() {
  helm upgrade --install packgate "$root/charts/packgate" --namespace packgate-system --create-namespace --wait --timeout 3m -f - >/dev/null <<V
image: {repository: "${BENCH_IMAGE%@*}", digest: "${BENCH_IMAGE#*@}"}
webhook: {replicas: 1}
registries: [{host: "$REGISTRY", plainHTTP: true}]
V
}

# bundle NAME: a small bundle, signed and attested; prints REPOSITORY@DIGEST
bundle() {
  local packed
  printf '%s\n' "$1" >"$1.txt"
  printf 'apiVersion: packgate.dev/v1alpha1\nkind: LockManifest\nname: %s\nartifacts: [{name: a, origin: %s.txt, target: a.txt}]\n' "$1" "$1" >"$1.yaml"
  "$BENCH_BINARY" lock --quiet "$1.yaml" -f "$1.lock.yaml" >/dev/null
  packed=$("$BENCH_BINARY" pack --quiet --plain-http "$1.lock.yaml" --key packgate.key --to "$REGISTRY/$namespace/x:$1")
  printf '%s@%s\n' "$REGISTRY/$namespace/x" "${packed##*@}"
}

# review FILE REFERENCE: what an API server sends for a Pod that mounts it
review() {
  cat >"$1" <<J
{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"00000000-0000-0000-0000-000000000000",
"kind":{"group":"","version":"v1","kind":"Pod"},"resource":{"group":"","version":"v1","resource":"pods"},
"requestKind":{"group":"","version":"v1","kind":"Pod"},"requestResource":{"group":"","version":"v1","resource":"pods"},
"name":"bench","namespace":"$namespace","operation":"CREATE","userInfo":{"username":"bench","groups":["system:authenticated"]},
"object":{"apiVersion":"v1","kind":"Pod","metadata":{"name":"bench","namespace":"$namespace"},
"spec":{"containers":[{"name":"main","image":"$IMAGE","volumeMounts":[{"name":"b","mountPath":"/b"}]}],
"volumes":[{"name":"b","image":{"reference":"$2"}}]}},"oldObject":null,"dryRun":false,"options":{"apiVersion":"meta.k8s.io/v1","kind":"CreateOptions"}}}
J
}

prepare() {
  local pem
  kubectl create namespace $namespace --dry-run=client -o yaml | kubectl apply -f - >/dev/null
  COSIGN_PASSWORD='' "$BENCH_BINARY" keys generate --quiet >/dev/null
  pem=$(sed 's/^/          /' packgate.pub)
  kubectl apply -f - >/dev/null <<P
apiVersion: packgate.dev/v1alpha1
kind: ClusterBundlePolicy
metadata: {name: bench}
spec:
  match: {references: ["$REGISTRY/$namespace/**"]}
  authorities:
  - name: bench
    key:
      pem: |
$pem
  slsa: {minimumLevel: 1, builders: [{id: "https://packgate.dev/builder/cli", authority: bench, level: 1}]}
P
  kubectl wait --for=condition=Enforced clusterbundlepolicy/bench --timeout=60s >/dev/null
  kubectl -n packgate-system get secret packgate-webhook-tls -o jsonpath='{.data.ca\.crt}' | base64 -d >ca.crt
  # A certificate for the peer.
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=peer -addext subjectAltName=DNS:peer -keyout peer.key -out peer.crt 2>/dev/null
}

ask() { # URL CA NAME COUNT PARALLEL BODY...
  "$BENCH_CLIENT" ask "$@"
}

inside() {
  local here url pid before after n warm_requests
  here=$(mktemp -d)
  cd "$here" || exit 1
  trap finish EXIT
  export COSIGN_PASSWORD='' HOME=$here
  install_chart
  prepare
  url=https://$(kubectl -n packgate-system get service packgate-webhook -o jsonpath='{.spec.clusterIP}'):443/uses
  "$BENCH_CLIENT" serve 127.0.0.1:9555 peer.crt peer.key &
  peer=$!
  local packgate=(ca.crt packgate-webhook.packgate-system.svc) nothing=(peer.crt peer)

  : >cold
  for ((n = 0; n < cold; n++)); do
    review "cold$n.json" "$(bundle "b$n")"
  done
  # Connections, and the policy's first look, are nobody's cold verdict.
  ask "$url" "${packgate[@]}" 1 1 cold0.json >/dev/null
  before=$(wc -l <"$PACKGATE_CLUSTER_REGISTRY_LOG")
  local files=()
  for ((n = 1; n < cold; n++)); do files+=("cold$n.json"); done
  ask "$url" "${packgate[@]}" 1 1 "${files[@]}" >cold
  after=$(wc -l <"$PACKGATE_CLUSTER_REGISTRY_LOG")

  warm_requests=$after
  for ((n = 0; n <= runs; n++)); do
    ask "$url" "${packgate[@]}" 1000 1 cold0.json >>warm.a
    ask https://127.0.0.1:9555/uses "${nothing[@]}" 1000 1 cold0.json >>warm.b
  done
  ask "$url" "${packgate[@]}" 4000 4 cold0.json >warm.many
  warm_requests=$(($(wc -l <"$PACKGATE_CLUSTER_REGISTRY_LOG") - warm_requests))
  pid=$(pgrep -f 'packgate webhook' | head -n 1)
  python3 - "$((after - before))" "$((cold - 1))" "$warm_requests" "/proc/$pid/status" <<'Y'
import json, statistics, sys
asked, bundles, warm, status = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
lines = lambda name: [json.loads(line) for line in open(name)]
a, b, many, cold = lines("warm.a")[1:], lines("warm.b")[1:], lines("warm.many")[0], lines("cold")[0]
assert cold["admitted"] == cold["asked"] and all(x["admitted"] == x["asked"] for x in a + [many]), (cold, a, many)
ratios = [x["p50ms"] / y["p50ms"] for x, y in zip(a, b)]
rss = next(int(line.split()[1]) for line in open(status) if line.startswith("VmRSS"))
print(f"cold: p50 {cold['p50ms']:.1f} ms, p99 {cold['p99ms']:.1f} ms (promised: p50 under 15); {asked / bundles:.2f} registry requests each (promised: 4)")
print(f"warm: p50 {statistics.median(x['p50ms'] for x in a):.3f} ms; does nothing: {statistics.median(x['p50ms'] for x in b):.3f} ms; "
      f"ratio median {statistics.median(ratios):.2f} (min {min(ratios):.2f}, max {max(ratios):.2f}; promised 5)")
print(f"warm, 4 at once: {many['perSecond']:.0f} a second (promised: 800); {warm} registry requests in all")
print(f"memory after {sum(x['asked'] for x in a) + a[0]['asked'] + many['asked'] + cold['asked'] + 1} verdicts: {rss / 1024:.1f} MiB (promised: 48)")
Y
}

if [ -n "${PACKGATE_CLUSTER_INSIDE:-}" ]; then inside "$@"; else outside; fi
