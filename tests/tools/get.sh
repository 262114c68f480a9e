#!/usr/bin/env bash
# get.sh [NAME...]  get these tools, or all, for the integration tests and benchmarks
# get.sh --bin      print the folder of the programs
# get.sh --schemas  print the folder of the JSON schemas
#
# Versions stand in ../compat.toml; checksums in the go.sum files beside this script and, for what is not built, below.
# Everything goes to a cache outside the repository, $PACKGATE_TOOLS or ~/.cache/packgate/tools:
#
#   built/NAME-KEY   a program or a folder of schemas; KEY is a hash of all that it was made from
#   bin/, schemas/   links to the current ones
#   deb/             Debian packages, as downloaded; nothing is installed
#
# What is there is not made again. Needs Go; for cosign-2, oras and umoci a Debian's apt and dpkg; for the schema of SPDX Maven.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${PACKGATE_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/packgate/tools}
all=(cosign cosign-2 crane distribution test-registry oras umoci image-spec-1.0 image-spec-1.1 cyclonedx spdx
  fulcio rekor rekor-v1 trillian timestamp-authority standins sigstore-kms-testkms)
build_flags=(-trimpath -buildvcs=false -ldflags '-s -w')
export CGO_ENABLED=0 GOFLAGS=-mod=readonly GOWORK=off

say() { printf '%s\n' "$*" >&2; }
die() { say "get.sh: $*"; exit 1; }
hash() { sha256sum | cut -c1-16; }

# version_of NAME: its version in compat.toml
version_of() {
  local v
  v=$(sed -n "s/^$1 = \"\([^\"]*\)\"\$/\1/p" "$here/../compat.toml")
  [ -n "$v" ] || die "tests/compat.toml has no version of $1"
  printf %s "$v"
}

# plan NAME: sets what the steps below need: kind, version, key and
#   go       module (a folder here) and package
#   deb      deb (file name), pool (its place in the archive), program, sum
#   schemas  module, folder in it, sum
#   jar      artifact, file in it, sum
plan() {
  local name=$1 upstream
  case $name in
    cosign) kind=go module=cosign upstream=github.com/sigstore/cosign/v3 package=$upstream/cmd/cosign ;;
    crane) kind=go module=crane upstream=github.com/google/go-containerregistry package=$upstream/cmd/crane ;;
    distribution) kind=go module=distribution upstream=github.com/distribution/distribution/v3 package=$upstream/cmd/registry ;;
    test-registry) kind=go module=registry upstream=github.com/google/go-containerregistry package=. ;;
    fulcio) kind=go module=sigstore upstream=github.com/sigstore/fulcio package=$upstream ;;
    rekor) kind=go module=sigstore upstream=github.com/sigstore/rekor-tiles/v2 package=$upstream/cmd/rekor-server/posix ;;
    timestamp-authority) kind=go module=sigstore upstream=github.com/sigstore/timestamp-authority/v2 package=./timestamp-authority ;;
    rekor-v1) kind=go module=rekor-v1 upstream=github.com/sigstore/rekor package=$upstream/cmd/rekor-server ;;
    trillian) kind=go module=trillian upstream=github.com/google/trillian package=. ;;
    standins) kind=go module=standins upstream=github.com/google/certificate-transparency-go package=. ;;
    cosign-2) kind=deb program=cosign ;;
    sigstore-kms-testkms) kind=go module=kms-plugin upstream='' package=. ;; # the standard library alone
    oras | umoci) kind=deb program=$name ;;
    image-spec-*) kind=schemas title=image-spec module=github.com/opencontainers/image-spec folder=schema ;;
    cyclonedx) kind=schemas title=cyclonedx module=github.com/CycloneDX/cyclonedx-go folder=schema ;;
    spdx) kind=jar title=spdx artifact=org.spdx:tools-java resource=resources/spdx-schema-v2.3.json ;;
    *) die "unknown tool $name; there are: ${all[*]}" ;;
  esac
  case $name in
    test-registry) version=$(version_of crane) ;; # same library
    standins) version=$(version_of certificate-transparency) ;; # its library
    sigstore-kms-testkms) version=ours ;;
    *) version=$(version_of "$name") ;;
  esac

  case $kind in
    go)
      [ -z "$upstream" ] || grep -qE "^(require)?[[:space:]]+$upstream v${version//./\\.}( |\$)" "$here/$module/go.mod" ||
        die "tests/compat.toml wants $upstream $version, tests/tools/$module/go.mod has another version"
      local sources
      mapfile -t sources < <(find "$here/$module" -name go.mod -o -name go.sum -o -name '*.go' ! -name '*_test.go' | LC_ALL=C sort)
      key=$({ go -C "$here/$module" version; printf '%s\n' "$package" "${build_flags[@]}"; cat "${sources[@]}"; } | hash)
      ;;
    deb)
      local arch
      arch=$(dpkg --print-architecture) || die "$name comes from a Debian package; this machine has no dpkg"
      deb=${program}_${version}_$arch.deb
      pool=pool/main/${program:0:1}/$program/$deb
      case $deb in
        cosign_2.5.0-2+b4_amd64.deb) sum=aef4fb6635710fd369ef73c07dde35540f45c877984e20f37aa11e181bb597c3 ;;
        oras_1.3.3-1_amd64.deb) sum=474f8451e880a64d7daed412baa52febd1c7d988ed778eadac00bdcbdad53af4 ;;
        umoci_0.4.7+ds-3+b7_amd64.deb) sum=8adce0c435368b8514425bfa31647ff1629241c97331ba4cd3da838a61a58e5a ;;
        *) die "no checksum of $deb: add it to tests/tools/get.sh" ;;
      esac
      key=${sum:0:16}
      ;;
    schemas)
      case $title-$version in
        cyclonedx-0.9.2) sum=h1:688QHn2X/5nRezKe2ueIVCt+NRqf7fl3AVQk+vaFcIo= ;;
        image-spec-1.0.2) sum=h1:9yCKha/T5XdGtO0q9Q9a6T5NUCsTn/DrBg0D7ufOcFM= ;;
        image-spec-1.1.1) sum=h1:y0fUlFfIZhPF1W537XOLg0/fcx6zcHCJwooC2xJA040= ;;
        *) die "no checksum of $title $version: add it to tests/tools/get.sh" ;;
      esac
      key=$(printf %s "$sum" | hash)
      ;;
    jar)
      command -v mvn >/dev/null || die "$name comes from Maven Central; this machine has no mvn"
      case $title-$version in
        spdx-1.1.8) sum=deaca39f9ae12879f061c946d72641240e731dc9df0059d9b69472f43accb4a5 ;;
        *) die "no checksum of $artifact $version: add it to tests/tools/get.sh" ;;
      esac
      key=${sum:0:16}
      ;;
  esac

  case $kind in
    schemas | jar) built=$cache/built/$title-$version-$key link=$cache/schemas/$title-$version ;;
    *) built=$cache/built/$name-$key link=$cache/bin/$name ;;
  esac
}

make_go() { # NAME OUT
  say "building $1 $version ..."
  nice -n 5 go -C "$here/$module" build "${build_flags[@]}" -o "$2" "$package"
}

# mirrors: where this machine gets Debian from
mirrors() {
  local codename
  # shellcheck source=/dev/null
  codename=$(. /etc/os-release && printf %s "${VERSION_CODENAME:-}")
  # shellcheck disable=SC2016 # apt's variables, not the shell's
  apt-get indextargets --no-release-info --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
    awk -v release="^($codename|oldstable|stable|testing|unstable|sid)\$" '$2 ~ release && $3 == "main" && !seen[$1]++ { print $1 }'
}

make_deb() { # NAME OUT
  local file=$cache/deb/$deb mirror
  if [ ! -f "$file" ]; then
    say "fetching $deb ..."
    # By its place in the archive and its checksum: no suite is added to the machine's apt, no index is downloaded.
    for mirror in $(mirrors); do
      if /usr/lib/apt/apt-helper -qq -o APT::Sandbox::User=root download-file "${mirror%/}/$pool" "$tmp/$deb" "SHA256:$sum" >&2; then
        mkdir -p "$cache/deb" && mv "$tmp/$deb" "$file"
        break
      fi
    done
  fi
  [ -f "$file" ] || die "cannot fetch $deb. If Debian has another version now, change tests/compat.toml and the checksum in" \
    "tests/tools/get.sh; or put a copy of the file into $cache/deb"
  printf '%s  %s\n' "$sum" "$file" | sha256sum --check --quiet - >&2 || die "$file is not what it should be: remove it"
  dpkg-deb --fsys-tarfile "$file" | tar -xOf - "./usr/bin/$program" >"$2"
  chmod 755 "$2"
  "$2" --help >/dev/null || die "$1 $version does not run on this machine"
}

make_schemas() { # NAME OUT
  local json dir got
  say "fetching the schemas of $title $version ..."
  json=$(cd "$tmp" && go mod download -json "$module@v$version") || die "$json"
  got=$(sed -n 's/^\t"Sum": "\(.*\)",*$/\1/p' <<<"$json")
  dir=$(sed -n 's/^\t"Dir": "\(.*\)",*$/\1/p' <<<"$json")
  [ "$got" = "$sum" ] || die "$title $version: checksum $got, not $sum"
  mkdir "$2"
  install -m 644 "$dir/$folder"/*.json "$2"
}

make_jar() { # NAME OUT
  local file=$tmp/${artifact#*:}-$version.jar plugin=org.apache.maven.plugins:maven-dependency-plugin:3.8.1
  say "fetching $artifact $version ..."
  # In a folder of its own: mvn would read a pom.xml here.
  (cd "$tmp" && mvn -q -B "$plugin:copy" -Dartifact="$artifact:$version" -DoutputDirectory="$tmp" -Dmdep.useBaseVersion=true >&2) ||
    die "cannot fetch $artifact $version"
  printf '%s  %s\n' "$sum" "$file" | sha256sum --check --quiet - >&2 || die "$artifact $version is not what it should be"
  mkdir "$2"
  unzip -p "$file" "$resource" >"$2/${resource##*/}"
}

# linked: is the tool that plan described there, and linked?
linked() { [ -e "$built" ] && [ "$(readlink "$link")" = "$built" ]; }

get() { # NAME
  local start=$SECONDS
  plan "$1"
  ! linked || return 0
  if [ -z "${tmp:-}" ]; then # one at a time
    mkdir -p "$cache"/{built,bin,schemas}
    exec 9>"$cache/lock"
    flock -n 9 || { say "waiting for another get.sh ..."; flock 9; }
    tmp=$(mktemp -d "$cache/tmp.XXXXXX")
    trap 'rm -rf "$tmp"' EXIT
    trap 'exit 130' INT TERM
  fi
  if [ ! -e "$built" ]; then
    "make_$kind" "$1" "$tmp/$1"
    mv -T "$tmp/$1" "$built"
    say "$1 $version: $((SECONDS - start)) s"
  fi
  ln -sfn "$built" "$tmp/link"
  mv -T "$tmp/link" "$link"
}

case ${1:-} in
  --bin) printf '%s\n' "$cache/bin" ;;
  --schemas) printf '%s\n' "$cache/schemas" ;;
  -*) sed -n '2,/^set/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; [ "$1" = --help ] || exit 2 ;;
  *)
    [[ $cache = /* ]] || die "PACKGATE_TOOLS must be an absolute path"
    command -v go >/dev/null || die "needs Go"
    [ $# -gt 0 ] || set -- "${all[@]}"
    for name in "$@"; do get "$name"; done
    ;;
esac
