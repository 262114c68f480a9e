#!/bin/bash
# existing.sh: what up.sh does with PACKGATE_USE_CLUSTER=1: look whether the cluster that KUBECONFIG names will do, and push the
# test image to its registry. README.md says what such a cluster must have.
# shellcheck source=env.sh
. "$(dirname "$0")/env.sh"
"$here/build.sh"
version=$(kubectl version -o json 2>/dev/null | sed -n '/"serverVersion"/,$s/.*"gitVersion": "\(v[^"]*\)".*/\1/p') || true
[ -n "$version" ] || die "the API server of $KUBECONFIG does not answer (kubectl version)"
minor=$(cut -d. -f2 <<<"$version")
[ "$minor" -ge 35 ] || skip "Kubernetes $version: image volumes need 1.35 or later"
[ "$(kubectl auth can-i '*' '*' --all-namespaces 2>/dev/null)" = yes ] || die "the tests need a user who may do everything (kubectl auth can-i '*' '*' --all-namespaces)"
[ -n "$REGISTRY" ] || die "set PACKGATE_CLUSTER_REGISTRY to a registry (HOST:PORT) that this machine, the nodes and the pods reach by that name"
crane catalog --insecure "$REGISTRY" >/dev/null 2>&1 || curl -sk -o /dev/null "http://$REGISTRY/v2/" || die "registry $REGISTRY does not answer"
"$here/build.sh" debian # busybox
"$here/node/images.sh"
say "existing cluster: Kubernetes $version, registry $REGISTRY${PLAIN:+, without referrers API: $PLAIN}, test image $IMAGE"
