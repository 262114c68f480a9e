#!/bin/bash
# smoke/all.sh [NAME...]: smoke tests of the cluster itself: all that this cluster can run, or those named
# shellcheck source=../env.sh
. "$(dirname "$0")/../env.sh"
inside "$@"
t=$(now)
if [ $# -eq 0 ]; then
  set -- job webhook imagevolume
  existing || set -- "$@" registries private restart
fi
for s in "$@"; do "$here/smoke/$s.sh"; done
say "smoke tests passed ($*): $(since "$t")"
