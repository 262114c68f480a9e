#!/usr/bin/env bash
# The figures that the project promises, each with a peer or a physical limit beside it in the same run. Ratios and medians: machines
# are noisy. Needs openssl, python3 and the tools of `make tools`.
#
#   benches/run.sh          all
#   benches/run.sh pack     packing 256 MiB and 1 GiB into a layout
#   benches/run.sh verify   verifying a keyed bundle in a local registry
#   benches/run.sh evidence judging one bundle, beside the cryptography alone
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
runs=${BENCH_RUNS:-7}
PATH=$("$root/tests/tools/get.sh" --bin):$PATH

cargo build --release --locked --quiet --manifest-path "$root/Cargo.toml"
target=$(cargo metadata --no-deps --format-version 1 --manifest-path "$root/Cargo.toml" | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
packgate=$target/release/packgate
work=$(mktemp -d "${TMPDIR:-/tmp}/packgate-bench.XXXXXX")
children=()
# shellcheck disable=SC2317 # called by trap
clean() {
  for pid in "${children[@]}"; do kill "$pid" 2>/dev/null || true; done
  rm -rf "$work"
}
trap clean EXIT
export HOME=$work COSIGN_PASSWORD=bench DOCKER_CONFIG=$work
cd "$work"

# files FOLDER COUNT MIB: COUNT incompressible files of MIB mebibytes, and FOLDER.lock.yaml
files() {
  mkdir -p "$1"
  {
    printf 'apiVersion: packgate.dev/v1alpha1\nkind: LockManifest\nname: %s\nartifacts:\n' "$1"
    for ((i = 0; i < $2; i++)); do
      head -c "$(($3 << 20))" /dev/urandom >"$1/$i.bin"
      printf -- '- {name: f%d, origin: %s/%d.bin, target: data/%d.bin}\n' "$i" "$1" "$i" "$i"
    done
  } >"$1.yaml"
  "$packgate" lock --quiet "$1.yaml" >/dev/null
}

bench_pack() {
  echo "pack: 16 files of 16 MiB into a layout (A) against openssl dgst -sha256 plus cp -r of the same files (B)"
  files quarter 16 16
  "$here/measure.py" -n "$runs" --reset 'rm -rf out copy; sync' \
    --a "'$packgate' pack --quiet quarter.lock.yaml --to oci:out" --b "openssl dgst -sha256 quarter/* && cp -r quarter copy"
  "$here/measure.py" --reset 'rm -rf out' --peak "'$packgate' pack --quiet quarter.lock.yaml --to oci:out"
  rm -rf quarter out copy
  echo "pack: 64 files of 16 MiB, and one of 1 GiB"
  files whole 64 16
  "$here/measure.py" --reset 'rm -rf out' --peak "'$packgate' pack --quiet whole.lock.yaml --to oci:out"
  rm -rf whole out
  files one 1 1024
  "$here/measure.py" --reset 'rm -rf out' --peak "'$packgate' pack --quiet one.lock.yaml --to oci:out"
  rm -rf one out
}

bench_verify() {
  echo "verify: a keyed signature in a local registry, packgate (A) against cosign (B)"
  test-registry -listen 127.0.0.1:0 >registry.txt &
  children+=($!)
  until grep -q listening registry.txt; do sleep 0.05; done
  local host
  host=$(sed -n 's/listening //p' registry.txt)
  files small 2 1
  "$packgate" keys generate >/dev/null
  local image
  image=$("$packgate" pack --quiet --plain-http small.lock.yaml --to "$host/bench/small:v1" --key packgate.key)
  image=${image/:v1@/@}
  "$here/measure.py" -n "$((runs * 3))" --a "'$packgate' verify --quiet --plain-http $image --key packgate.pub" \
    --b "cosign verify --key packgate.pub --insecure-ignore-tlog $image"
}

bench_evidence() {
  echo "evidence: one bundle in memory"
  cargo bench --quiet --locked --manifest-path "$root/Cargo.toml" --bench evidence
}

for name in "${@:-pack verify evidence}"; do
  for bench in $name; do "bench_$bench"; done
done
