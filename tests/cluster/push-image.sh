#!/bin/bash
# push-image.sh LAYOUT: push the image that image.sh made to the cluster's registry, beside the test image, and print its name with
# digest. Runs in the cluster.
# shellcheck source=env/env.sh
. "$(dirname "$0")/env/env.sh"
[ $# = 1 ] || die "usage: push-image.sh LAYOUT"
inside "$@"
repository=${IMAGE%/*}/packgate
tag=$(basename "$1")
digest=$(grep -o 'sha256:[0-9a-f]*' "$1/index.json" | head -n 1)
if [ "$(crane digest --insecure "$repository:$tag" 2>/dev/null)" != "$digest" ]; then
  said=$(crane push --insecure "$1" "$repository:$tag" 2>&1) || die "cannot push the image to $repository: $said"
fi
printf '%s@%s\n' "$repository" "$digest"
