#!/bin/bash
# smoke/imagevolume.sh: mounts an image as a volume, the whole and a subPath. An artifact with the empty config (as ORAS makes
# them) cannot be mounted by containerd 2.4: the test says so when one day it can.
# shellcheck source=../env.sh
. "$(dirname "$0")/../env.sh"
inside "$@"
ns=smoke-imagevolume-$RANDOM
repository=$REGISTRY/packgate-test/volume
kubectl create namespace $ns >/dev/null
w=$(mktemp -d); trap 'rm -rf "$w"; kubectl delete namespace $ns --wait=false >/dev/null' EXIT
t=$(now)
mkdir -p "$w/files/sub"; echo one >"$w/files/a"; echo two >"$w/files/sub/b"
tar -C "$w/files" -czf "$w/layer" .
crane append --insecure --oci-empty-base -f "$w/layer" -t "$repository:1" >/dev/null 2>&1

put() { # FILE: upload a blob, print its descriptor's digest and size
  local digest
  digest=sha256:$(sha256sum <"$1" | cut -d' ' -f1)
  curl -sf -X POST -H 'Content-Type: application/octet-stream' --data-binary "@$1" "http://${repository/\///v2/}/blobs/uploads/?digest=$digest"
  printf '"digest":"%s","size":%d' "$digest" "$(stat -c %s "$1")"
}

try() { # NAME TAG SUBPATH FILE WANT SECONDS: does a Pod that mounts it print WANT?
  kubectl -n $ns create -f - >/dev/null <<K
apiVersion: v1
kind: Pod
metadata: {name: $1}
spec:
  restartPolicy: Never
  containers:
  - name: main
    image: $IMAGE
    command: [cat, /v/$4]
    volumeMounts: [{name: v, mountPath: /v$3}]
  volumes: [{name: v, image: {reference: "$repository:$2"}}]
K
  kubectl -n $ns wait --for=jsonpath='{.status.phase}'=Succeeded "pod/$1" --timeout="$6s" >/dev/null 2>&1 || return 1
  [ "$(kubectl -n $ns logs "$1")" = "$5" ]
}
state() { kubectl -n $ns get pod "$1" -o jsonpath='{.status.containerStatuses[0].state}'; }

try whole 1 '' a one 20 || die "image volume, whole: $(state whole)"
try subpath 1 '/sub, subPath: sub' sub/b two 20 || die "image volume, subPath: $(state subpath)"
took=$(since "$t")
if ! existing; then
  printf '{}' >"$w/config"
  printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","artifactType":"application/vnd.example.v1","config":{"mediaType":"application/vnd.oci.empty.v1+json",%s},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip",%s}]}' \
    "$(put "$w/config")" "$(put "$w/layer")" >"$w/manifest"
  curl -sf -X PUT -H 'Content-Type: application/vnd.oci.image.manifest.v1+json' --data-binary "@$w/manifest" "http://${repository/\///v2/}/manifests/artifact"
  ! try artifact artifact '' a one 4 || say "NOTE: an artifact without an image config could be mounted: the limit is gone, say so in README.md"
fi
say "ok image volumes, whole and subPath: $took"
