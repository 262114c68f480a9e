#!/bin/bash
# node/up.sh node|control-plane [sigstore]: start what is not running, inside of the namespaces; up.sh calls this
# shellcheck source=../env.sh
. "$(dirname "$0")/../env.sh"
ensure() { alive "$1" || "$here/node/start.sh" "$1"; }
"$here/node/certs.sh"
for name in registry plain etcd apiserver controller-manager scheduler; do ensure "$name"; done
"$here/node/objects.sh"
if [ "$1" = node ]; then
  "$here/node/images.sh"
  for name in containerd kubelet proxy; do ensure "$name"; done
fi
ensure dns
[ "${2:-}" != sigstore ] || ensure sigstore
