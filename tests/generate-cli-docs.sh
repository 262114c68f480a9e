#!/usr/bin/env bash
# Prints docs/cli.md from the help texts. `make generate` writes it, `make check-generated` compares.
set -euo pipefail
cd "$(dirname "$0")/.."
packgate() { NO_COLOR=1 COLUMNS=120 cargo run --quiet --locked -- "$@"; }
cat <<'TEXT'
# The command line

Written by `make generate` from the help texts; not edited by hand. Exit codes: 0 done or admitted, 1 denied, 2 invalid input,
3 a dependency did not answer or refused, 4 bytes contradict a digest or format, 70 our bug.

TEXT
section() { printf '## packgate%s\n\n```\n' "${*:+ $*}"; packgate "$@" --help | sed -e 's/[[:space:]]*$//' -e '/\[env: \(HOME\|DOCKER_CONFIG\)/d'; printf '```\n\n'; }
section
for verb in $(packgate --help | sed -n '/^Commands:/,/^$/s/^  \([a-z-]*\) .*/\1/p' | grep -v help); do
  section "$verb"
  for inner in $(packgate "$verb" --help | sed -n '/^Commands:/,/^$/s/^  \([a-z-]*\) .*/\1/p' | grep -v help); do section "$verb" "$inner"; done
done
