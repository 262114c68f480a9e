#!/bin/bash
# build.sh [NAME...]: build programs, or get them from tests/tools, and link them into $CACHE/bin (default: what up.sh needs,
# and helm; also: ctr, and sigstore: all that a private one consists of). What is there is not built again:
#
#   built/NAME-KEY   a program; KEY is a hash of Go's version, the flags, go.mod, go.sum and our sources
#   bin/             links to the current ones
#   debian/KEY       unpacked Debian packages: runc, nft, busybox
# shellcheck source=env.sh
. "$(dirname "$0")/env.sh"
k8s=1.36.2
flags=(-trimpath -buildvcs=false)
export CGO_ENABLED=0 GOFLAGS=-mod=readonly GOWORK=off

# plan NAME: sets module (a folder here), package, extra flags and further names for the program
plan() {
  module='' package=. extra=(-ldflags '-s -w') links=()
  case $1 in
    kubeall) # tags: upstream's own for releases. Without -X the servers call themselves v0.0.0-master.
      local v=k8s.io/component-base/version
      module=kubeall
      extra=(-tags "notest,grpcnotrace" -ldflags "-s -w -X $v.gitVersion=v$k8s -X $v.gitMajor=1 -X $v.gitMinor=36 -X $v.gitTreeState=clean -X k8s.io/client-go/pkg/version.gitVersion=v$k8s")
      links=(etcd kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubelet kubectl)
      ;;
    containerd | containerd-shim-runc-v2 | ctr) module=node package=github.com/containerd/containerd/v2/cmd/$1 ;;
    bridge | loopback) module=node package=github.com/containernetworking/plugins/plugins/main/$1 ;;
    host-local) module=node package=github.com/containernetworking/plugins/plugins/ipam/$1 ;;
    coredns) module=coredns package=github.com/coredns/coredns ;;
    helm) module=helm package=helm.sh/helm/v4/cmd/helm ;;
    probe | accesslog) module=$1 ;;
    *) die "unknown program $1" ;;
  esac
}

key() {
  local sources
  mapfile -t sources < <(find "$here/$module" -name go.mod -o -name go.sum -o -name '*.go' ! -name '*_test.go' | LC_ALL=C sort)
  { go -C "$here/$module" version; printf '%s\n' "$package" "${flags[@]}" "${extra[@]}"; cat "${sources[@]}"; } | sha256sum | cut -c1-16
}

link() { # TARGET NAME
  ln -sfn "$1" "$BIN/.$2" && mv -T "$BIN/.$2" "$BIN/$2"
}

build() { # NAME
  local out start name
  plan "$1"
  out=$CACHE/built/$1-$(key)
  if [ ! -x "$out" ]; then
    start=$(now)
    say "building $1 ..."
    nice -n 5 go -C "$here/$module" build "${flags[@]}" "${extra[@]}" -o "$out.tmp" "$package"
    mv "$out.tmp" "$out"
    say "built $1: $(since "$start"), $(($(stat -c %s "$out") / 1000000)) MB"
  fi
  for name in "$1" "${links[@]}"; do link "$out" "$name"; done
}

if [ $# -eq 0 ]; then
  if existing; then
    set -- probe helm crane
    command -v kubectl >/dev/null || set -- "$@" kubeall
  else
    set -- kubeall containerd containerd-shim-runc-v2 bridge host-local loopback coredns probe accesslog helm \
      crane test-registry distribution debian
  fi
fi
command -v go >/dev/null || skip "needs Go"
mkdir -p "$BIN" "$CACHE/built"
exec 9>"$CACHE/lock.build"
flock -n 9 || { say "waiting for another build.sh ..."; flock 9; }
for name in "$@"; do
  case $name in
    debian) "$here/fetch-debian.sh" ;;
    crane | cosign | oras | umoci | test-registry | distribution) "$TOOLS" "$name" ;;
    sigstore) "$TOOLS" cosign fulcio rekor rekor-v1 trillian timestamp-authority standins ;;
    *) build "$name" ;;
  esac
done
