#!/usr/bin/env bash
# The chart against a real API server, without Pods: what the controller may do, that upgrade and rollback leave its lease alone, and what
# uninstall leaves. Run it in the test cluster: `make test-chart-installed`. Nobody else may have packgate installed there.
set -euo pipefail
cd "$(dirname "$0")/../.."
namespace=packgate-chart-test
account=system:serviceaccount:$namespace:packgate-controller
tenant=packgate-chart-tenant
HOME=$(mktemp -d)
export HOME # of helm
cleanup() {
  helm uninstall packgate --namespace $namespace --ignore-not-found >/dev/null 2>&1 || true
  kubectl delete --filename crds --ignore-not-found >/dev/null
  kubectl delete namespace $namespace $tenant --ignore-not-found >/dev/null
  rm -rf "$HOME"
}
trap cleanup EXIT

fail() { echo "error: $*" >&2; exit 1; }
chart() { helm "$1" packgate charts/packgate --namespace $namespace --set controller.replicas=0 --set "tenants={$tenant}" "${@:2}" >/dev/null; }

# may ANSWER USER VERB RESOURCE [FLAG...]: is this what the API server says? In the namespace of packgate, unless told otherwise.
may() {
  local said
  said=$(kubectl auth can-i "$3" "$4" --as "$2" --namespace $namespace "${@:5}" 2>/dev/null) || true
  [ "$said" = "$1" ] || fail "may $2 $3 $4 ${*:5}? \"$said\", expected \"$1\""
}

lease() { kubectl get lease packgate-controller --namespace $namespace --output "jsonpath={.spec.holderIdentity}"; }
led() { [ "$(lease)" = pod-1 ] || fail "$1 changed who holds the lease"; }

kubectl create namespace $tenant >/dev/null
chart install --create-namespace

kubectl get lease packgate-controller --namespace $namespace --output json |
  sed 's/"spec": {.*}/"spec": {"holderIdentity": "pod-1", "leaseDurationSeconds": 15}/' |
  kubectl replace --as $account --field-manager packgate-controller --filename - >/dev/null
led "nothing"
chart upgrade --set signing.allowNone=true
led "upgrade"
chart upgrade --server-side=false
led "upgrade by the client"
helm rollback packgate 1 --namespace $namespace >/dev/null
led "rollback"
helm rollback packgate 2 --namespace $namespace --server-side=true >/dev/null
led "rollback by the server"

may no $account get secrets --namespace default
may yes $account get secrets --namespace $tenant
may no $account list secrets --namespace $tenant
may yes $account list secrets
may yes $account create jobs.batch --namespace default
may no $account list configmaps --namespace default
may yes $account patch bundlepolicies.packgate.dev --subresource status --namespace default
may no $account patch bundlepolicies.packgate.dev --namespace default
may yes $account watch clusterbundlepolicies.packgate.dev
may yes $account get namespaces/kube-system
may yes $account update leases.coordination.k8s.io/packgate-controller
may no $account update leases.coordination.k8s.io/other
may no $account create leases.coordination.k8s.io
may no system:serviceaccount:$namespace:packgate-signer get secrets
may yes jane get configmaps/packgate-platform-key
may no jane get configmaps/packgate-config

kubectl create rolebinding jane --namespace $tenant --clusterrole edit --user jane >/dev/null
kubectl create rolebinding joe --namespace $tenant --clusterrole view --user joe >/dev/null
may yes jane create bundlepolicies.packgate.dev --namespace $tenant
may no jane patch bundlepolicies.packgate.dev --subresource status --namespace $tenant
may yes joe list bundlepolicies.packgate.dev --namespace $tenant
may no joe delete bundlepolicies.packgate.dev --namespace $tenant

left() { kubectl get "$1" --selector app.kubernetes.io/name=packgate --all-namespaces --output name; }
helm uninstall packgate --namespace $namespace --wait >/dev/null 2>&1
for kind in clusterrole clusterrolebinding role,rolebinding serviceaccount,configmap,service deployment lease pdb; do
  [ -z "$(left $kind)" ] || fail "uninstall leaves $(left $kind)"
done
for file in crds/*.yaml; do kubectl get --filename "$file" >/dev/null || fail "uninstall removes $file"; done
chart install # over the definitions that it left
echo "chart: installed, upgraded, rolled back, removed and installed again"
