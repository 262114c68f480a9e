#!/bin/bash
# image.sh: make packgate's container image without a container engine, as an OCI layout in the cache, and print its folder.
# image.sh --binary: print the path of the static binary that the image holds; it is built first.
# image.sh --selftest: test this script.
#
# What the image is stands in the last stage of the Dockerfile, which is read, not repeated: FROM scratch, COPY, USER, WORKDIR,
# ENTRYPOINT, CMD, ENV, LABEL. Whatever else it says is an error, so that this image cannot differ from the Dockerfile's. Its build
# stage is repeated here: a static release binary, built with this machine's Rust, and this machine's certificate roots.
#
# The same files and Dockerfile give the same digest, and what is there is not made again. PACKGATE_IMAGE_PROFILE=dev packs a debug
# build, which saves developers some minutes.
# shellcheck source=env/env.sh
. "$(dirname "$0")/env/env.sh"
self=$(realpath "${BASH_SOURCE[0]}")
root=$(cd "$(dirname "$self")/../.." && pwd)
images=$CACHE/images
kept=4 # images in the cache

# binary: build it, print its path
binary() {
  local host profile=${PACKGATE_IMAGE_PROFILE:-release} flags=() folder
  case $profile in
    release) flags=(--release) folder=release ;;
    dev) folder=debug ;;
    *) die "PACKGATE_IMAGE_PROFILE must be release or dev, not $profile" ;;
  esac
  host=$(rustc -vV | sed -n 's/^host: //p')
  (cd "$root" && RUSTFLAGS="-C target-feature=+crt-static" cargo build "${flags[@]}" --locked --bin packgate --target "$host") >&2
  local path=${CARGO_TARGET_DIR:-$root/target}/$host/$folder/packgate
  [ -x "$path" ] || die "cargo did not build $path"
  printf '%s\n' "$path"
}

# instructions DOCKERFILE: those of the last stage, FROM included, one a line; continued lines are joined, comments left out
instructions() {
  awk '
    /^[[:space:]]*#/ || /^[[:space:]]*$/ { next }
    { sub(/^[[:space:]]+/, ""); sub(/[[:space:]]+$/, "") }
    /\\$/ { sub(/\\$/, ""); line = line $0 " "; next }
    { line = line $0; if (line ~ /^[Ff][Rr][Oo][Mm] /) n = 0; out[n++] = line; line = "" }
    END { if (line != "") out[n++] = line; for (i = 0; i < n; i++) print out[i] }
  ' "$1"
}

# source_of FROM PATH BINARY: the file of this machine that stands for a path of the build stage, or of the build context
source_of() {
  local file
  case $1:$2 in
    build:/out/packgate) file=$3 ;;
    build:/etc/ssl/certs/ca-certificates.crt) file=/etc/ssl/certs/ca-certificates.crt ;;
    build:/src/*) file=$root/${2#/src/} ;;
    :[!/]*) file=$root/$2 ;;
    *) die "Dockerfile: COPY: nobody knows here where $2${1:+ of $1} comes from: teach $(basename "$self")" ;;
  esac
  [ -f "$file" ] || die "Dockerfile: COPY: $2 would be $file, and there is no such file"
  printf '%s\n' "$file"
}

# one_word INSTRUCTION TEXT: fails unless TEXT is one word that means the same to every tool
one_word() {
  [[ $2 =~ ^[A-Za-z0-9_./:@=+-]+$ ]] || die "Dockerfile: $1 $2: only plain words can be taken over"
}

# words INSTRUCTION JSON: the elements of an exec form, one a line
words() {
  local word='"[A-Za-z0-9_./:@=+ -]*"'
  [[ $2 =~ ^\[\ *$word(\ *,\ *$word)*\ *\]$ ]] || die "Dockerfile: $1 $2: only a list of plain words can be taken over"
  grep -o '"[^"]*"' <<<"$2" | tr -d '"'
}

# read_stage DOCKERFILE BINARY: sets mutate (flags of crane), sources and targets (of COPY)
read_stage() {
  local line first=1 text keyword word
  mutate=() sources=() targets=()
  while IFS= read -r line; do
    keyword=${line%%[[:space:]]*}
    text=${line#"$keyword"}
    text=${text#"${text%%[![:space:]]*}"}
    if [ $first = 1 ]; then
      [[ $line =~ ^FROM\ +scratch(\ +AS\ +[a-z]+)?$ ]] || die "Dockerfile: the last stage begins with \"$line\": only FROM scratch can be made here"
      first=0
      continue
    fi
    case $keyword in
      COPY) read_copy "$text" "$2" ;;
      USER) one_word USER "$text"; mutate+=(--user "$text") ;;
      WORKDIR) one_word WORKDIR "$text"; mutate+=(--workdir "$text") ;;
      ENV) one_word ENV "$text"; [[ $text = *=* ]] || die "Dockerfile: ENV $text: must be KEY=VALUE"; mutate+=(--env "$text") ;;
      LABEL) one_word LABEL "$text"; [[ $text = *=* ]] || die "Dockerfile: LABEL $text: must be KEY=VALUE"; mutate+=(--label "$text") ;;
      ENTRYPOINT | CMD)
        word=$(words "$keyword" "$text") || exit 1
        while IFS= read -r word; do mutate+=("--${keyword,,}" "$word"); done <<<"$word"
        ;;
      *) die "Dockerfile: the last stage says \"$line\": $(basename "$self") does not know what to do with it" ;;
    esac
  done < <(instructions "$1")
  [ $first = 0 ] || die "$1 has no stage"
  [ ${#sources[@]} -gt 0 ] || die "Dockerfile: the last stage copies nothing"
}

read_copy() { # ARGUMENTS BINARY
  local from='' fields file
  read -ra fields <<<"$1"
  if [[ ${fields[0]} = --from=* ]]; then from=${fields[0]#--from=} fields=("${fields[@]:1}"); fi
  [[ ${#fields[@]} = 2 && ${fields[0]} != -* && ${fields[1]} = /* && ${fields[1]} != */ ]] ||
    die "Dockerfile: COPY $1: must be [--from=STAGE] FILE /FILE"
  file=$(source_of "$from" "${fields[0]}" "$2") || exit 1
  sources+=("$file") targets+=("${fields[1]}")
}

# layer FILE TARGET OUT: a tar with the file and its folders, owned by root, without times
layer() {
  local tree=$3.tree
  mkdir -p "$tree$(dirname "$2")"
  cp -L "$1" "$tree$2"
  find "$tree" -type d -exec chmod 755 {} +
  tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --format=ustar -C "$tree" -cf "$3" "$(cut -d/ -f2 <<<"$2")"
  rm -r "$tree"
}

# key: a hash of all that the image that was read is made from
key() {
  { sed -n 's/^crane = //p' "$root/tests/compat.toml"; printf '%s\n' "${mutate[@]}" "${targets[@]}"; platform; sha256sum "${sources[@]}" | cut -d' ' -f1; } |
    sha256sum | cut -c1-16
}

platform() { printf 'linux/%s\n' "$(go env GOARCH)"; }

# image DOCKERFILE BINARY: make the image, unless it is there; print its folder
image() {
  local out work i reference layers=()
  read_stage "$1" "$2"
  out=$images/$(key)
  if [ ! -d "$out" ]; then
    mkdir -p "$images"
    work=$(mktemp -d "$images/.tmp.XXXXXX")
    for i in "${!sources[@]}"; do
      layer "${sources[i]}" "${targets[i]}" "$work/$i.tar"
      layers+=(-f "$work/$i.tar")
    done
    reference=$registry/image:1
    { crane append --insecure --oci-empty-base "${layers[@]}" -t "$reference" &&
      crane mutate --insecure "$reference" --set-platform "$(platform)" "${mutate[@]}" -t "$reference" &&
      crane pull --insecure --format=oci "$reference" "$work/layout"; } >"$work/log" 2>&1 || { cat "$work/log" >&2; rm -r "$work"; die "the image cannot be made"; }
    mv -T "$work/layout" "$out"
    rm -r "$work"
  fi
  touch "$out"
  printf '%s\n' "$out"
}

# start_registry: a registry for the time of this script, because crane changes images only in one; sets registry to HOST:PORT
start_registry() {
  "$TOOLS" crane test-registry
  coproc REGISTRY_PROCESS { exec test-registry -listen 127.0.0.1:0 -until-eof 2>/dev/null; } # ends with this script
  read -r registry <&"${REGISTRY_PROCESS[0]}"
  registry=${registry#listening }
}

config() { # FOLDER: the configuration of the image, in one line of JSON
  local manifest
  manifest=$(digest_in "$(cat "$1/index.json")")
  cat "$1/blobs/sha256/$(digest_in "$(cat "$1/blobs/sha256/$manifest")")"
}

digest_in() { grep -o 'sha256:[0-9a-f]*' <<<"$1" | head -n 1 | cut -d: -f2; }

digest() { digest_in "$(cat "$1/index.json")"; }

# shellcheck disable=SC2016 # sed's $, not the shell's
selftest() {
  local a b n=0
  w=$(mktemp -d); trap 'rm -rf "$w"' EXIT
  images=$w/images
  echo 'the binary' >"$w/packgate"
  cat >"$w/Dockerfile" <<'D'
FROM docker.io/library/rust AS build
RUN cargo build \
 && true
# a comment
FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/packgate /packgate
USER 65532:65532
ENTRYPOINT ["/packgate"]
D
  a=$(image "$w/Dockerfile" "$w/packgate")
  mv "$a" "$w/first"
  b=$(image "$w/Dockerfile" "$w/packgate")
  [ "$(digest "$w/first")" = "$(digest "$b")" ] || die "made twice, the image has two digests"
  for want in '"Entrypoint":["/packgate"]' '"User":"65532:65532"'; do
    grep -qF "$want" <<<"$(config "$b")" || die "$want is not in the configuration: $(config "$b")"
  done

  differs() { # SED-EXPRESSION [WHAT-THE-CONFIGURATION-SAYS]
    sed "$1" "$w/Dockerfile" >"$w/changed"
    local c; c=$(image "$w/changed" "$w/packgate")
    [ "$(digest "$c")" != "$(digest "$b")" ] || die "the same image after $1"
    grep -qF -- "${2:-}" <<<"$(config "$c")" || die "$2 is not in the configuration after $1"
    n=$((n + 1))
  }
  refused() { # SED-EXPRESSION WHAT-IT-SAYS
    sed "$1" "$w/Dockerfile" >"$w/changed"
    local out
    ! out=$(image "$w/changed" "$w/packgate" 2>&1) || die "not refused: $1"
    grep -qF -- "$2" <<<"$out" || die "refused without saying \"$2\": $out"
    n=$((n + 1))
  }
  differs 's/^USER.*/USER 1:1/' '"User":"1:1"'
  differs 's/^ENTRY.*/ENTRYPOINT ["\/packgate", "controller"]/' '"Entrypoint":["/packgate","controller"]'
  differs '$a CMD ["version"]' '"Cmd":["version"]'
  differs '$a ENV A=b' '"A=b"'
  differs '$a LABEL a.b=c' '"a.b":"c"'
  differs '$a WORKDIR /w' '"WorkingDir":"/w"'
  differs 's/ \/packgate$/ \/bin\/packgate/'
  differs '$a COPY LICENSE /LICENSE'
  differs '/ca-certificates/d'
  echo 'another binary' >"$w/other"
  [ "$(digest "$(image "$w/Dockerfile" "$w/other")")" != "$(digest "$b")" ] || die "another binary, the same image"
  refused '$a RUN true' 'does not know what to do'
  refused '$a HEALTHCHECK NONE' 'does not know what to do'
  refused 's/^FROM scratch/FROM debian/' 'only FROM scratch'
  refused 's/^COPY --from=build \/out/COPY --chown=1 --from=build \/out/' 'must be [--from=STAGE] FILE'
  refused 's/\/out\/packgate/\/out\/other/' 'nobody knows here'
  refused '$a COPY --from=build /src/no/such /file' 'no such file'
  refused '$a USER a b' 'plain words'
  refused '$a ENTRYPOINT /packgate' 'list of plain words'
  refused '$a ENV A' 'KEY=VALUE'
  image "$root/Dockerfile" "$w/packgate" >/dev/null
  say "ok image.sh: $n changes of the Dockerfile"
}

case ${1:-} in
  --selftest) start_registry; selftest ;;
  --binary) binary ;;
  '')
    built=$(binary)
    start_registry
    out=$(image "$root/Dockerfile" "$built")
    find "$images" -mindepth 1 -maxdepth 1 -type d ! -name '.*' -printf '%T@ %p\n' | sort -rn | tail -n +$((kept + 1)) | cut -d' ' -f2 | xargs -r rm -r
    say "image sha256:$(digest "$out") in $out"
    printf '%s\n' "$out"
    ;;
  *) die "usage: image.sh [--binary|--selftest]" ;;
esac
