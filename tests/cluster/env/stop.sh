#!/bin/bash
# stop.sh [--kill] NAME...: stop components of the cluster, as restart.sh does, and leave them stopped.
# shellcheck source=env.sh
. "$(dirname "$0")/env.sh"
only_ours
inside "$@"
signal=TERM
if [ "${1:-}" = --kill ]; then signal=KILL; shift; fi
[ $# -gt 0 ] || die "usage: stop.sh [--kill] NAME...; names: ${COMPONENTS[*]}"
gone() { ! alive "$1"; }
for name in "$@"; do
  [[ " ${COMPONENTS[*]} " = *" $name "* ]] || die "unknown component $name; there are: ${COMPONENTS[*]}"
  for file in "$PIDS/$name" "$PIDS/$name".*; do # a component may have a second process, NAME.something
    process=$(basename "$file")
    alive "$process" || continue
    kill -s $signal "$(cat "$file")" 2>/dev/null || true
    until_true 10 gone "$process" || { kill -KILL "$(cat "$file")" && until_true 10 gone "$process"; } || die "$process does not end"
  done
done
