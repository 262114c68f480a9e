#!/bin/bash
# quickstart.sh up|down: packgate in a real cluster on this machine, from nothing. `make quickstart` and `make quickstart-down` call it.
#
# up builds everything, brings up a single-node Kubernetes with two registries (tests/cluster/env), installs the chart with helm, and
# shows a bundle from lock to mounted file. It can be run again. down removes all of it and proves that nothing is left.
#
# PACKGATE_USE_CLUSTER=1 with KUBECONFIG and PACKGATE_CLUSTER_REGISTRY=HOST:PORT takes your cluster (kind, k3s ...) instead; what it must
# have stands in tests/cluster/env/README.md. Then down removes what was installed and leaves the cluster and what was pushed.
# shellcheck source=../tests/cluster/env/env.sh
. "$(dirname "$0")/../tests/cluster/env/env.sh"
self=$(realpath "${BASH_SOURCE[0]}")
root=$(cd "$(dirname "$self")/.." && pwd)
cd "$root" || exit 1
own=$STATE/quickstart # our files: the binary, the published key
system=packgate-system
mark=packgate.dev/quickstart # label of the namespaces that this script made
namespace=quickstart
bundle=hello

step() { say "quickstart: $*"; }

# build: build what runs in the cluster, and in the shell before it; prints the image's name
build() {
  for program in cargo go git; do command -v $program >/dev/null || die "needs $program"; done
  step "cluster: programs, then nodes (the first time 20 minutes, mostly for Kubernetes itself)"
  tests/cluster/env/up.sh || {
    status=$?
    [ $status = 77 ] || exit $status
    die "this machine cannot run a cluster of its own (see above). With PACKGATE_USE_CLUSTER=1 it takes yours: tests/cluster/env/README.md"
  }
  step "packgate: static binary and image (the first time some minutes)"
  local layout binary
  layout=$(tests/cluster/image.sh)
  binary=$(tests/cluster/image.sh --binary 2>/dev/null)
  mkdir -p "$STATE/bin" "$own"
  install -m 755 "$binary" "$STATE/bin/packgate"
  printf '%s\n' "$layout" >"$own/layout"
}

# http HOST: the command line's flag for a registry, --plain-http if it speaks that (one that wants TLS answers 400, or nothing)
http() {
  local code
  code=$(curl -s -o /dev/null -w '%{http_code}' --max-time 5 "http://$1/v2/") || true
  [[ $code != 200 && $code != 401 ]] || printf -- '--plain-http'
}

# refuse_others: never change a packgate, or a namespace, that this script did not make
refuse_others() {
  local name
  for name in $system $namespace; do
    [ -z "$(kubectl get namespace "$name" --ignore-not-found -o name)" ] ||
      [ -n "$(kubectl get namespace "$name" -o jsonpath="{.metadata.labels['${mark//./\\.}']}")" ] ||
      die "there is a namespace $name in this cluster that the quick start did not make"
  done
}

make_namespace() { # NAME
  kubectl create namespace "$1" --dry-run=client -o yaml | kubectl apply -f - >/dev/null
  kubectl label namespace "$1" "$mark=yes" --overwrite >/dev/null
}

# example FILE: one of the objects, with this cluster's registry and image in place of those that it names
# shellcheck disable=SC2153 # IMAGE is env.sh's
example() {
  sed -e "s|registry\.test:5000|$REGISTRY|g" -e "s|plain\.test:5001/busybox:1|$IMAGE|g" -e "s|https://packgate.dev/builder/CLUSTER/platform|$builder|g" \
    "examples/quickstart/$1"
}

values() {
  local host
  printf 'image: {repository: "%s", digest: "%s"}\ncontroller: {replicas: 1}\nwebhook: {replicas: 1}\nregistries:\n' "${image%@*}" "${image#*@}"
  for host in "$REGISTRY" ${PLAIN:+"$PLAIN"}; do
    printf -- '- {host: "%s", plainHTTP: %s}\n' "$host" "$([ -n "$(http "$host")" ] && echo true || echo false)"
  done
}

failed() { # WHAT OBJECT
  kubectl -n $namespace get packedbundles,jobs,pods >&2 || true
  kubectl -n $namespace describe "$2" >&2 || true
  die "$1; look around with make cluster-shell"
}

install_chart() {
  step "packgate: helm upgrade --install packgate charts/packgate --namespace $system"
  make_namespace $system
  values >"$own/values.yaml"
  helm upgrade --install packgate charts/packgate --namespace $system --create-namespace --wait --timeout 3m -f "$own/values.yaml" >"$own/helm.log" 2>&1 || {
    cat "$own/helm.log" >&2
    kubectl -n $system describe pods >&2 || true
    for face in controller webhook; do kubectl -n $system logs deployment/packgate-$face --tail=20 >&2 || true; done
    die "the chart cannot be installed"
  }
}

pack() {
  step "files for the bundle: $REGISTRY/$namespace/files; and an unsigned bundle of them, to be refused"
  packgate pack examples/hello/lock.yaml --format Artifact --to "$REGISTRY/$namespace/files:v1" --quiet ${http:+"$http"} >/dev/null
  packgate pack examples/hello/lock.yaml --to "$REGISTRY/$namespace/unsigned:v1" --quiet ${http:+"$http"} >/dev/null
  step "a lock and a PackedBundle: examples/quickstart"
  make_namespace $namespace
  for file in 2-lock.yaml 3-packedbundle.yaml; do example $file | kubectl apply -f - >/dev/null; done
  step "waiting until it is packed, signed, attested and verified"
  kubectl -n $namespace wait --for=condition=Ready packedbundle/$bundle --timeout=3m >/dev/null || failed "the bundle is not ready" packedbundle/$bundle
  reference=$(kubectl -n $namespace get packedbundle $bundle -o jsonpath='{.status.bundle.reference}')
  digest=${reference#*@}
  # what was found of it: "signed, attested and verified"
  found=$(kubectl -n $namespace get packedbundle $bundle -o jsonpath='{.status.conditions[?(@.type=="Verified")].message}')
  found=${found##* is } found=${found/ and /, }
  repository=${reference%@*} repository=${repository%:*}
}

# govern: from now on only what the platform signed may be used
govern() {
  step "a policy: only what this installation signed and built"
  builder=$(kubectl -n $system get configmap packgate-platform-key -o jsonpath='{.data.builder\.id}')
  example 4-policy.yaml | kubectl apply -f - >/dev/null
  kubectl wait --for=condition=Enforced clusterbundlepolicy/quickstart --timeout=1m >/dev/null || failed "the policy is not enforced" clusterbundlepolicy/quickstart
}

# denied OBJECT FILE: applies what must be refused; prints the field and the reason
denied() {
  local said
  if said=$(example "denied/$2" | kubectl apply -f - 2>&1); then failed "$1 was admitted" "$1"; fi
  said=$(sed -n 's/.*denied the request: \([^ :]*\): \([A-Za-z]*\): .*/\1 \2/p' <<<"$said")
  printf '  denied    %-17s  %s' "$1" "${said:?$1 was refused, but not by packgate}"
}

refuse() {
  step "what the policy does not allow"
  local unsigned tag_only adopted
  unsigned=$(denied pod/unsigned unsigned.yaml)
  tag_only=$(denied pod/tag-only tag-only.yaml)
  adopted=$(denied packedbundle/adopt-unsigned adopt-unsigned.yaml)
  refusals=$unsigned$'\n'$tag_only$'\n'$adopted
}

read_it() {
  step "a Pod that mounts it"
  kubectl -n $namespace delete pod reader --ignore-not-found --grace-period=1 >/dev/null
  example 5-reader.yaml | sed "s|$repository@sha256:[0-9a-f]*|$repository@$digest|" | kubectl apply -f - >/dev/null
  kubectl -n $namespace wait --for=jsonpath='{.status.phase}'=Succeeded pod/reader --timeout=2m >/dev/null || failed "the Pod did not run" pod/reader
  printed=$(kubectl -n $namespace logs reader)
}

verify() {
  step "verifying it as anybody can, with the published key"
  local key=$own/platform.pub
  kubectl -n $system get configmap packgate-platform-key -o jsonpath='{.data.cosign\.pub}' >"$key"
  verify=(packgate verify "$repository@$digest" --key "$key" --builder-id "$builder" ${http:+"$http"})
  "${verify[@]}" >"$own/report" 2>&1 || { cat "$own/report" >&2; die "${verify[*]}"; }
}

show() {
  cat <<END
quickstart: ready
  bundle    $reference  $found
  admitted  pod/reader         printed "$printed" from the mounted bundle
$refusals
  verify    ${verify[*]}
  shell     make cluster-shell
  remove    make quickstart-down
END
}

up() { # inside of the cluster
  local image http reference digest repository printed verify refusals builder=""
  refuse_others
  step "image: pushing it to ${IMAGE%/*}"
  image=$(tests/cluster/push-image.sh "$(cat "$own/layout")")
  http=$(http "$REGISTRY")
  install_chart
  pack
  govern
  read_it
  refuse
  verify
  show
}

# remove: from a cluster that stays, what this script made there
remove() {
  refuse_others
  local kinds
  if [ -n "$(kubectl get namespace $system --ignore-not-found -o name)" ]; then
    step "removing packgate and the namespaces $system and $namespace"
    kubectl delete namespace $namespace --ignore-not-found >/dev/null
    helm uninstall packgate --namespace $system --ignore-not-found --wait >/dev/null
    kubectl delete namespace $system >/dev/null
    mapfile -t kinds < <(kubectl get customresourcedefinitions -o name | grep '\.packgate\.dev$')
    [ ${#kinds[@]} = 0 ] || kubectl delete "${kinds[@]}" >/dev/null
  fi
  rm -rf "$own" "${STATE:?}/bin"
  step "removed; what was pushed to $REGISTRY stays there"
}

case ${1:-} in
  up) build; exec tests/cluster/env/exec.sh "$self" inside ;;
  inside) up ;;
  down)
    if existing; then remove; else tests/cluster/env/down.sh && tests/cluster/env/leftovers.sh; fi
    ;;
  *) die "usage: quickstart.sh up|down" ;;
esac
