#!/usr/bin/env bash
# all.sh TARGET...: make these targets, all of them even if one fails, and say how many tests there were
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
log=$(mktemp)
trap 'rm -f "$log"' EXIT
failed=()
for target in "$@"; do
  make --no-print-directory "$target" 2>&1 | tee -a "$log" || failed+=("$target")
done
awk '/^test result: / {
  for (i = 2; i <= NF; i++) { if ($i == "passed;") passed += $(i - 1); if ($i == "failed;") failed += $(i - 1); if ($i ~ /^ignored;?$/) skipped += $(i - 1) }
} END { printf "tests: %d passed, %d failed, %d skipped\n", passed, failed, skipped }' "$log"
[ ${#failed[@]} = 0 ] || { echo "failed: ${failed[*]}" >&2; exit 1; }
