#!/usr/bin/env python3
"""Where the time of the tests goes: `make test-times`, after `make test`.

times.py FILE...   of lines with the time when each came (tests/all.sh): what each target of make took, the compiler, each group of tests, and
                   the longest waits for a line
"""

import os
import re
import sys

LONGEST = 12
COMPILED = re.compile(r"Finished .*profile .* in (?:(\d+)m )?([\d.]+)s")
TESTED = re.compile(r"test result: .*?(\d+) passed.*?finished in ([\d.]+)s")


def show(path):
    with open(path, encoding="utf-8") as log:
        lines = [(float(at), text) for at, _, text in (line.rstrip("\n").partition("\t") for line in log)]
    if not lines:
        return
    first, last = lines[0][0], lines[-1][0]
    print(f"{os.path.basename(path)}: {duration(last - first)}")
    for at, text in lines:
        if found := COMPILED.search(text):
            seconds = int(found[1] or 0) * 60 + float(found[2])
            if seconds >= 1:
                print(f"  {duration(seconds):>9}  compiler, until {duration(at - first)}")
        elif found := TESTED.search(text):
            print(f"  {duration(float(found[2])):>9}  {found[1]} tests, until {duration(at - first)}")
    waits = sorted(((after - before, text) for (before, _), (after, text) in zip(lines, lines[1:])), reverse=True)
    for seconds, text in waits[:LONGEST]:
        if seconds >= 1:
            print(f"  {duration(seconds):>9}  before: {text.strip()[:110]}")


def duration(seconds):
    return f"{int(seconds // 60)}m {seconds % 60:02.0f}s" if seconds >= 60 else f"{seconds:.1f}s"


if len(sys.argv) < 2:
    sys.exit(__doc__)
for log in sys.argv[1:]:
    show(log)
