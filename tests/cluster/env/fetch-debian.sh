#!/bin/bash
# fetch-debian.sh: the few programs that cannot be built from Go modules alone (runc, nft, busybox), out of the distribution's own
# packages, unpacked under the cache. apt checks them against the archive's signature; nothing is installed. build.sh calls this.
# shellcheck source=env.sh
. "$(dirname "$0")/env.sh"
for c in apt-get apt-cache dpkg-deb; do command -v $c >/dev/null || skip "needs a Debian's apt and dpkg, for runc, nft and busybox"; done
key=$({ cat /etc/os-release; dpkg --print-architecture; cat "$0"; } | sha256sum | cut -c1-16)
dir=$CACHE/debian/$key
if [ ! -d "$dir" ]; then
  start=$(now)
  say "fetching Debian packages ..."
  rm -rf "$dir.tmp"; mkdir -p "$dir.tmp/deb" "$dir.tmp/root" "$dir.tmp/bin"
  # nft's libraries have different names in different releases: ask for its dependencies
  mapfile -t libs < <(apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances nftables |
    grep -E '^lib' | grep -vE '^(libc6|libgcc|libcrypt1|libtinfo)' | sort -u)
  (cd "$dir.tmp/deb" && apt-get -qq -o APT::Sandbox::User=root download runc busybox-static nftables "${libs[@]}") >&2 ||
    die "apt-get cannot download runc, busybox-static and nftables (try apt-get update)"
  for f in "$dir.tmp"/deb/*.deb; do dpkg-deb -x "$f" "$dir.tmp/root"; done
  for program in runc nft busybox; do
    file=$(cd "$dir.tmp/bin" && find ../root -path "*bin/$program" -type f | head -n 1)
    [ -n "$file" ] || die "no $program in Debian's packages"
    ln -s "$file" "$dir.tmp/bin/$program"
  done
  "$dir.tmp/bin/runc" --version >/dev/null || skip "runc does not run here (is libseccomp2 missing?)"
  rm -rf "$dir.tmp/deb"
  mv "$dir.tmp" "$dir"
  say "Debian packages: $(since "$start")"
fi
ln -sfn "$key" "$CACHE/debian/.current" && mv -T "$CACHE/debian/.current" "$CACHE/debian/current"
