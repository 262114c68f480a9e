#!/bin/bash
# smoke/registries.sh: both registries take an image; one answers the referrers API, the other 404; what was asked is in their
# request logs, and whether with Authorization, but not which.
# shellcheck source=../env.sh
. "$(dirname "$0")/../env.sh"
inside "$@"
t=$(now)
w=$(mktemp -d); trap 'rm -rf "$w"' EXIT
echo "$RANDOM" >"$w/file"; tar -C "$w" -cf "$w/layer" file
log() { case $1 in "$REGISTRY") printf %s "$PACKGATE_CLUSTER_REGISTRY_LOG" ;; *) printf %s "$PACKGATE_CLUSTER_PLAIN_REGISTRY_LOG" ;; esac; }

check() { # REGISTRY STATUS-OF-REFERRERS
  local repository=packgate-test/smoke-$RANDOM digest status
  crane append --insecure --oci-empty-base -f "$w/layer" -t "$1/$repository:1" >/dev/null 2>&1 || die "$1 takes no image"
  digest=$(crane digest --insecure "$1/$repository:1")
  status=$(curl -s -o /dev/null -w '%{http_code}' -H 'Authorization: Bearer hunter2' "http://$1/v2/$repository/referrers/$digest")
  [ "$status" = "$2" ] || die "$1 answers $status to the referrers API, not $2"
  logged "$1" PUT "/v2/$repository/manifests/1" 201 false
  logged "$1" GET "/v2/$repository/referrers/$digest" "$2" true
  ! grep -q hunter2 "$(log "$1")" || die "a credential is in the request log of $1"
}

logged() { # REGISTRY METHOD PATH STATUS AUTHORIZATION
  grep -F "\"method\":\"$2\",\"path\":\"$3\",\"" "$(log "$1")" | grep -q "\"status\":$4,\"authorization\":$5}" || die "not in the request log of $1: $*"
}

check "$REGISTRY" 200
check "$PLAIN" 404
say "ok registries and their request logs: $(since "$t")"
