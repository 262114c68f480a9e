#!/usr/bin/env python3
"""Where the time of the tests goes: `make test-times`, after `make test`.

times.py record FILE   pass standard input on, and note in FILE when each line came
times.py show FILE...  what each took: targets of make, the compiler, each group of tests, and the longest waits for a line
"""

import os
import re
import sys
import time

LONGEST = 12
COMPILED = re.compile(r"Finished .*profile .* in (?:(\d+)m )?([\d.]+)s")
TESTED = re.compile(r"test result: .*?(\d+) passed.*?(?:finished in ([\d.]+)s|, in ([\d.]+) s)")


def record(path):
    """Copies lines, not blocks: whoever watches wants to see each test when it ends."""
    with open(path, "w", encoding="utf-8") as log:
        for line in iter(sys.stdin.buffer.readline, b""):
            sys.stdout.buffer.write(line)
            sys.stdout.buffer.flush()
            text = line.decode("utf-8", "replace").rstrip("\n")
            log.write(f"{time.time():.2f}\t{text}\n")


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
            print(f"  {duration(float(found[2] or found[3] or 0)):>9}  {found[1]} tests, until {duration(at - first)}")
    waits = sorted(((after - before, text) for (before, _), (after, text) in zip(lines, lines[1:])), reverse=True)
    for seconds, text in waits[:LONGEST]:
        if seconds >= 1:
            print(f"  {duration(seconds):>9}  before: {text.strip()[:110]}")


def duration(seconds):
    return f"{int(seconds // 60)}m {seconds % 60:02.0f}s" if seconds >= 60 else f"{seconds:.1f}s"


def main():
    match sys.argv[1:]:
        case ["record", path]:
            record(path)
        case ["show", *paths] if paths:
            for path in paths:
                show(path)
        case _:
            sys.exit(__doc__)


main()
