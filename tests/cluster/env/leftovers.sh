#!/bin/bash
# leftovers.sh: after down.sh, prove that nothing of the cluster is left: no process, namespace, mount, network device, cgroup or
# state. Exit status 0: nothing; 1: what is printed. While the cluster is up, it prints what the cluster consists of.
#
# up.sh calls it with --record before it makes anything, which notes the mounts and network devices that are there, and up.sh and
# down.sh with --record-namespaces, which notes the cluster's namespaces, the pods' included.
# shellcheck source=env.sh
. "$(dirname "$0")/env.sh"
only_ours

mounts() { awk '{print $5}' /proc/self/mountinfo | sort; }
devices() { ip -o link show | awk -F': ' '{print $2}' | sort; }
cgroups() { find /sys/fs/cgroup -type d -name "$CGROUP" 2>/dev/null; }
mine=$(readlink /proc/self/ns/{cgroup,ipc,mnt,net,pid,user,uts} | sort)

# processes: what runs in a noted namespace or in the cluster's cgroups, or is one of our programs working on this state
processes() {
  local p
  for p in /proc/[0-9]*; do
    if in_namespaces "$p" || grep -qs "/$CGROUP" "$p/cgroup" || { [[ $(readlink "$p/exe") = "$CACHE"/built/* ]] && grep -qsaF "$STATE/" "$p/cmdline"; }; then
      printf '%s %s\n' "${p#/proc/}" "$(tr '\0' ' ' <"$p/cmdline" | cut -c1-100)"
    fi
  done 2>/dev/null
}

in_namespaces() { # PROCESS
  local n
  for n in $(readlink "$1"/ns/*); do
    case $noted in *"$n"*) return 0 ;; esac
  done
  return 1
}

# holders: what keeps a noted namespace alive without running in it: an open file or a bind mount
holders() {
  [ -n "$noted" ] || return 0
  local p
  for p in /proc/[0-9]*; do
    readlink "$p"/fd/* | sed "s|^|process ${p#/proc/} holds |" || true # processes end meanwhile
    awk '{ print "mount " $5 " holds " $4 }' "$p/mountinfo" || true
  done 2>/dev/null | { grep -F "$noted" || true; } | sort -u
}

# namespaces: those that this cluster's processes are in and this script is not
namespaces() {
  local p processes
  mapfile -t processes < <(cat "$STATE/ns.pid"; cgroups | xargs -r -d '\n' sh -c 'find "$@" -name cgroup.procs -exec cat {} +' find | sort -u)
  for p in "${processes[@]}"; do
    readlink /proc/"$p"/ns/{cgroup,ipc,mnt,net,pid,uts} || true # it may have ended
  done | sort -u | comm -23 - <(printf '%s\n' "$mine")
}

# report TITLE: prints the lines of standard input below a title; counts them
found=0
report() {
  local lines
  mapfile -t lines
  [ ${#lines[@]} -gt 0 ] || return 0
  found=$((found + ${#lines[@]}))
  printf '%s:\n' "$1"
  printf '  %s\n' "${lines[@]}"
}

case ${1:-} in
  --record) rm -rf "$RECORD"; mkdir -p "$RECORD"; mounts >"$RECORD/mounts"; devices >"$RECORD/devices"; : >"$RECORD/namespaces"; exit ;;
  --record-namespaces) mkdir -p "$RECORD"; namespaces >>"$RECORD/namespaces"; sort -uo "$RECORD/namespaces" "$RECORD/namespaces"; exit ;;
  '') ;;
  *) die "usage: leftovers.sh" ;;
esac
[ -d "$RECORD" ] || { say "no cluster was ever up with this state ($STATE)"; exit 0; }
noted=$(cat "$RECORD/namespaces")
report processes < <(processes)
report 'namespaces held' < <(holders)
report 'mounts that were not there before' < <(mounts | comm -13 "$RECORD/mounts" -)
report 'network devices that were not there before' < <(devices | comm -13 "$RECORD/devices" -)
report cgroups < <(cgroups)
[ "${KEEP:-0}" = 1 ] || report state < <(find "$STATE" -maxdepth 0 2>/dev/null)
if [ $found -gt 0 ]; then say "$found things are left"; exit 1; fi
say "nothing is left: no process, namespace ($(wc -l <"$RECORD/namespaces") were there), mount, network device, cgroup or state"
