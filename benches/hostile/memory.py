#!/usr/bin/env python3
"""The most memory that a process in a container has had: its cgroup's own peak, and the largest working set of all looks. Prints JSON.

    memory.py PID SECONDS

Working set: what the kubelet calls so, the cgroup's usage without the file pages that could be given back. Cgroup v1 and v2; where neither can
be read, the kernel's own peak of the process (VmHWM).
"""

import json
import pathlib
import sys
import time

pid, seconds = sys.argv[1], float(sys.argv[2])
MIB = 1 << 20


def cgroup():
    """Files with the usage and the peak, and the folder; None where there is none."""
    for line in pathlib.Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            folder = pathlib.Path(f"/sys/fs/cgroup/memory{path}")
            found = folder / "memory.usage_in_bytes", folder / "memory.max_usage_in_bytes", folder / "memory.stat", "total_inactive_file"
        elif not controllers:
            folder = pathlib.Path(f"/sys/fs/cgroup{path}")
            found = folder / "memory.current", folder / "memory.peak", folder / "memory.stat", "inactive_file"
        else:
            continue
        if found[0].exists():
            return found
    return None


def working_set(files):
    usage, _, stat, key = files
    inactive = next((int(line.split()[1]) for line in stat.read_text().splitlines() if line.startswith(key + " ")), 0)
    return int(usage.read_text()) - inactive


def process_peak():
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def same_process():
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]


started, files = same_process(), cgroup()
most, of_process, of_cgroup, alive = 0, 0, 0, True
end = time.monotonic() + seconds
while time.monotonic() < end:
    try:
        alive = same_process() == started
        of_process = max(of_process, process_peak())
        if files:
            most = max(most, working_set(files))
            of_cgroup = int(files[1].read_text()) if files[1].exists() else 0
    except (OSError, StopIteration):
        alive = False
    if not alive:
        break
    time.sleep(0.25)
# The cgroup's own peak counts file pages that nobody asked to keep; a short peak of the process is in VmHWM, whenever it was.
print(json.dumps({"workingSetMiB": most / MIB, "processPeakMiB": of_process / MIB, "cgroupPeakMiB": of_cgroup / MIB, "alive": alive}))
