#!/usr/bin/env bash
# all.sh TARGETS [BESIDE]: make these targets one after another, all of them even if one fails, and say how many tests there were. The targets
# of BESIDE are made at the same time, with a lower priority, and shown afterwards: all.sh 'test-cluster' 'test-fast test-interop'
#
# When each line came is kept beside what cargo builds; `make test-times` tells where the time went.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
times=${CARGO_TARGET_DIR:-target}/test-times
rm -rf "$times"
mkdir -p "$times"

# make_all TARGET...: their output; notes which fail
make_all() {
  local target
  for target in "$@"; do
    make --no-print-directory "$target" 2>&1 | tests/times.py record "$times/$target" || echo "$target" >>"$failed"
  done
}

read -ra first <<<"${1:-}"
read -ra beside <<<"${2:-}"
failed=$(mktemp)
shown=$(mktemp)
other=
trap 'rm -f "$failed" "$shown"' EXIT
trap '[ -z "$other" ] || kill -- -"$other"; exit 130' INT TERM
if [ ${#beside[@]} != 0 ]; then
  set -m # a process group of its own, which can be ended as a whole
  (renice -n 5 $BASHPID >/dev/null; make_all "${beside[@]}") >"$shown" 2>&1 </dev/null &
  other=$!
  set +m
fi
make_all "${first[@]}"
if [ -n "$other" ]; then
  tail --pid="$other" -n +1 -f "$shown"
  wait "$other"
fi
for target in "${first[@]}" "${beside[@]}"; do cut -f 2- "$times/$target"; done | awk '/^test result: / {
  for (i = 2; i <= NF; i++) { if ($i == "passed;") passed += $(i - 1); if ($i == "failed;") failed += $(i - 1); if ($i ~ /^ignored;?$/) skipped += $(i - 1) }
} END { printf "tests: %d passed, %d failed, %d skipped\n", passed, failed, skipped }'
[ ! -s "$failed" ] || { echo "failed: $(paste -sd' ' "$failed")" >&2; exit 1; }
