#!/usr/bin/env bash
# fuzz.sh [TARGET...]: fuzz these parsers of outside bytes, or all, SECONDS_EACH seconds each (default 30). Begins with fuzz/seeds; what it finds
# beside them is kept in fuzz/corpus, and an input that makes a target fail in fuzz/artifacts.
#
# cargo-fuzz is built once, into a cache outside the repository; what is fuzzed is built in fuzz/target, or where FUZZ_TARGET_DIR says.
set -euo pipefail
cd "$(dirname "$0")/../fuzz"
seconds=${SECONDS_EACH:-30}
version=$(sed -n 's/^cargo-fuzz = "\([^"]*\)"$/\1/p' ../tests/compat.toml)
tool=${PACKGATE_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/packgate/tools}/built/cargo-fuzz-$version
targets=("$@")
[ ${#targets[@]} != 0 ] || mapfile -t targets < <(sed -n 's/^name = "\(.*\)"$/\1/p' Cargo.toml | tail -n +2)

[ -x "$tool/bin/cargo-fuzz" ] || cargo install --quiet --locked --version "$version" --root "$tool" cargo-fuzz
PATH=$tool/bin:$PATH
export CARGO_TARGET_DIR=${FUZZ_TARGET_DIR:-$PWD/target}
# Without AddressSanitizer, which needs a nightly compiler and finds nothing in code that is never unsafe.
cargo fuzz build -s none
log=$(mktemp)
trap 'rm -f "$log"' EXIT
failed=()
for target in "${targets[@]}"; do
  mkdir -p "corpus/$target"
  if cargo fuzz run -s none "$target" "corpus/$target" "seeds/$target" -- -max_total_time="$seconds" >"$log" 2>&1; then
    echo "fuzz $target: $(sed -n 's/^Done /ran /p' "$log")"
  else
    failed+=("$target")
    tail -n 60 "$log" >&2
    echo "fuzz $target: FAILED" >&2
  fi
done
result=ok
[ ${#failed[@]} = 0 ] || result=FAILED
echo "test result: $result. $((${#targets[@]} - ${#failed[@]})) passed; ${#failed[@]} failed; 0 ignored"
[ ${#failed[@]} = 0 ] || { echo "fuzz: ${failed[*]}" >&2; exit 1; }
