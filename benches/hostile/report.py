#!/usr/bin/env python3
"""The table of `make bench-hostile`: what was measured, and the bound beside it. Exit status 1 if a bound is broken.

    report.py FOLDER        with the files that ../hostile.sh writes
"""

import json
import pathlib
import sys

folder = pathlib.Path(sys.argv[1])


def read(name):
    return json.loads((folder / f"{name}.json").read_text())


def peak(of):
    """The peak of the container's cgroup, which is what its limit is about; without one, that of the process."""
    return of["cgroupPeakMiB"] or max(of["workingSetMiB"], of["processPeakMiB"])


webhook, controller = read("memory-webhook"), read("memory-controller")
quiet, honest = read("quiet"), read("honest")
unsigned, elsewhere = read("unsigned"), read("elsewhere")
seen = (folder / "elsewhere.seen").read_text().split()
restarts = (folder / "restarts").read_text().split()
ratio = honest["p99ms"] / quiet["p99ms"]

rows = [
    ("peak memory of the webhook", f"{peak(webhook):.1f} MiB", "96 MiB", peak(webhook) <= 96),
    ("peak memory of the controller", f"{peak(controller):.1f} MiB", "80 MiB", peak(controller) <= 80),
    ("containers that were started again", " ".join(restarts), "0 0", restarts == ["0", "0"] and webhook["alive"] and controller["alive"]),
    ("honest warm verdicts: p99", f"{honest['p99ms']:.2f} ms = {ratio:.1f} x {quiet['p99ms']:.2f} ms", "10 x undisturbed", ratio <= 10),
    ("honest verdicts that were no yes", f"{honest['asked'] - honest['admitted']} of {honest['asked']}", "0", honest["admitted"] == honest["asked"] > 0),
    ("of these, for overload", f"{honest['overloaded']}", "0", honest["overloaded"] == 0),
    ("unsigned, governed, and admitted", f"{unsigned['answers'].get('201', 0)} of {unsigned['sent']}", "0",
     not unsigned["answers"].get("201") and unsigned["sent"] > 0),
    ("ungoverned Pods elsewhere that were refused", f"{elsewhere['sent'] - elsewhere['answers'].get('201', 0)} of {elsewhere['sent']}", "0",
     elsewhere["answers"].get("201", 0) == elsewhere["sent"] > 0),
    ("ungoverned Pods elsewhere that the webhook saw", seen[0], "0", seen[0] == "0"),
]
width = [max(len(row[at]) for row in rows) for at in range(3)]
print(f"{'':{width[0]}}  {'measured':{width[1]}}  bound")
for what, measured, bound, holds in rows:
    print(f"{what:{width[0]}}  {measured:{width[1]}}  {bound:{width[2]}}  {'ok' if holds else 'BROKEN'}")
print()
for name in ("evidence", "inline", "lists", "keys", "connections"):
    print(f"attack {name}: {json.dumps(read(name)) if (folder / f'{name}.json').exists() else 'not sent'}")
print(f"policies that were refused when they were written: {(folder / 'policies.refused').read_text().strip()}")
print(f"peaks of the processes, with the pages of the program that all share: webhook {webhook['processPeakMiB']:.1f} MiB, controller {controller['processPeakMiB']:.1f} MiB")
sys.exit(0 if all(row[3] for row in rows) else 1)
