#!/bin/bash
# images.sh: the images pause:1 (pod sandboxes) and busybox:1 (busybox and probe, for tests), made here and pushed beside $IMAGE.
# In our own cluster that is plain.test, which forgets nothing when it is restarted.
# shellcheck source=../env.sh
. "$(dirname "$0")/../env.sh"
repository=${IMAGE%/*}
! crane manifest --insecure "$IMAGE" >/dev/null 2>&1 || exit 0
t=$(now)
w=$(mktemp -d); trap 'rm -rf "$w"' EXIT
mkdir -p "$w/pause" "$w/busybox"/{bin,etc,tmp}
cp -L "$BIN/probe" "$w/pause/probe"
cp -L "$BIN/probe" "$w/busybox/bin/"
cp -L "$(deb_program busybox)" "$w/busybox/bin/busybox"
for a in $("$w/busybox/bin/busybox" --list); do [ "$a" = busybox ] || ln -s busybox "$w/busybox/bin/$a"; done
chmod 1777 "$w/busybox/tmp"; echo 'root:x:0:0:root:/:/bin/sh' >"$w/busybox/etc/passwd"
push() { # NAME:TAG DIRECTORY crane-mutate-flags...
  tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C "$2" -cf "$w/layer.tar" .
  crane append --insecure --oci-empty-base -f "$w/layer.tar" -t "$repository/$1"
  crane mutate --insecure "$repository/$1" --set-platform "linux/$(go env GOARCH)" -t "$repository/$1" "${@:3}"
}
{ push pause:1 "$w/pause" --entrypoint /probe,pause; push busybox:1 "$w/busybox" --entrypoint '' --cmd /bin/sh --env PATH=/bin; } >"$w/log" 2>&1 ||
  { cat "$w/log" >&2; die "cannot push the test images to $repository"; }
say "images pause:1 and busybox:1: $(since "$t")"
