#!/bin/bash
# suite.sh IMAGE PROGRAM FLAG...: bring up a cluster unless it is up, push the image (image.sh) to its registry, and run the tests of PROGRAM
# that FLAGs choose in it. Which cluster: PACKGATE_CLUSTER_STATE.
# shellcheck source=env/env.sh
. "$(dirname "$0")/env/env.sh"
tests=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
[ $# -ge 2 ] || die "usage: suite.sh IMAGE PROGRAM FLAG..."
"$here/up.sh" node sigstore
PACKGATE_TEST_IMAGE=$("$tests/push-image.sh" "$1")
export PACKGATE_TEST_IMAGE PACKGATE_REQUIRE_CLUSTER=1
exec "$here/exec.sh" "${@:2}"
