#!/usr/bin/env bash
# Line coverage of the unit and integration tests, the binary that they run included. Needs cargo-llvm-cov and llvm-tools:
#   cargo install --locked cargo-llvm-cov && rustup component add llvm-tools
#
#   tests/coverage.sh [MINIMUM]   fail if fewer percent of the lines of src/core are covered (default 90)
set -euo pipefail
minimum=${1:-90}
cd "$(dirname "$0")/.."
command -v cargo-llvm-cov >/dev/null || { echo "coverage.sh: cargo-llvm-cov is missing: cargo install --locked cargo-llvm-cov" >&2; exit 1; }
cargo llvm-cov --locked --no-report
summary() { cargo llvm-cov report "$@"; }
summary --summary-only
cargo llvm-cov report --json --summary-only | python3 -c '
import json, sys
total = {}
for file in json.load(sys.stdin)["data"][0]["files"]:
    part = "core" if "/src/core/" in file["filename"] else "the rest"
    lines = file["summary"]["lines"]
    for name in (part, "all"):
        count, covered = total.get(name, (0, 0))
        total[name] = (count + lines["count"], covered + lines["covered"])
for name, (count, covered) in sorted(total.items()):
    print(f"lines covered in {name}: {covered} of {count}, {100 * covered / count:.1f} %")
count, covered = total["core"]
sys.exit(100 * covered / count < float(sys.argv[1]))' "$minimum"
