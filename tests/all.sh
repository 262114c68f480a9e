#!/usr/bin/env bash
# all.sh TARGET...: make these targets, all of them even if one fails, and say how many tests there were. When each line came is kept beside
# what cargo builds; `make test-times` tells where the time went.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
times=${CARGO_TARGET_DIR:-target}/test-times
rm -rf "$times"
mkdir -p "$times"
failed=()

# record FILE: pass lines on, and note in FILE when each came
record() {
  local line
  while IFS= read -r line || [ -n "$line" ]; do
    printf '%s\n' "$line"
    printf '%s\t%s\n' "${EPOCHREALTIME/,/.}" "$line" >&3
  done 3>"$1"
}

for target in "$@"; do
  make --no-print-directory "$target" 2>&1 | record "$times/$target" || failed+=("$target")
done
for target in "$@"; do cut -f 2- "$times/$target"; done | awk '/^test result: / {
  for (i = 2; i <= NF; i++) { if ($i == "passed;") passed += $(i - 1); if ($i == "failed;") failed += $(i - 1); if ($i ~ /^ignored;?$/) skipped += $(i - 1) }
} END { printf "tests: %d passed, %d failed, %d skipped\n", passed, failed, skipped }'
[ ${#failed[@]} = 0 ] || { echo "failed: ${failed[*]}" >&2; exit 1; }
