#!/bin/bash
# down.sh: remove the cluster: its processes, mounts, network, cgroups and state. The cache stays. KEEP=1 keeps state and logs.
# An existing cluster is left as it is.
# shellcheck source=env.sh
. "$(dirname "$0")/env.sh"
if existing; then say "an existing cluster is not taken down"; exit 0; fi
[ "${PACKGATE_CLUSTER_LOCKED:-0}" = 1 ] || exclusively
if running; then
  "$here/leftovers.sh" --record-namespaces # by now also the pods'
  p=$(cat "$STATE/ns.pid")
  kill -9 "$p"
  until_true 20 test ! -d "/proc/$p" || die "process $p does not end"
fi
rm -f "$STATE/ns.pid" "$STATE/ns.started" "$STATE/ready"

# remove_cgroup DIRECTORY: fails while the kernel has not let go of the last process
remove_cgroup() { find "$1" -depth -type d -exec rmdir {} + 2>/dev/null; [ ! -d "$1" ]; }
for c in /sys/fs/cgroup/"$CGROUP" /sys/fs/cgroup/*/"$CGROUP"; do
  [ ! -d "$c" ] || until_true 5 remove_cgroup "$c" || die "cgroup $c is still in use"
done
if [ "${KEEP:-0}" = 1 ]; then say "state and logs kept in $STATE"; else rm -rf "$STATE"; fi
say "down"
