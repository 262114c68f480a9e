#!/usr/bin/env python3
"""Times whole commands as pairs: A B A B ..., and prints medians and the ratio A/B pair by pair.

    measure.py [-n RUNS] --a 'SHELL COMMAND' --b 'SHELL COMMAND' [--reset 'SHELL COMMAND']
    measure.py --peak 'SHELL COMMAND' [--reset ...]      peak memory of the largest single process

CPU is user + system time of the command and its children, from the kernel's accounting of the finished process. --reset runs before
every command and is not counted.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time


def run(command):
    begin = time.monotonic()
    child = subprocess.Popen(["sh", "-c", command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    errors = child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.monotonic() - begin
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        sys.exit(f"{command}: exit {child.returncode}\n{errors.decode(errors='replace')}")
    return {"cpu": usage.ru_utime + usage.ru_stime, "wall": wall, "peak": usage.ru_maxrss / 1024}


def reset(command):
    if command:
        subprocess.run(["sh", "-c", command], check=True, stdout=subprocess.DEVNULL)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("-n", type=int, default=7)
    parser.add_argument("--a")
    parser.add_argument("--b")
    parser.add_argument("--peak")
    parser.add_argument("--reset")
    args = parser.parse_args()
    if args.peak:
        peaks = []
        for _ in range(min(args.n, 3)):
            reset(args.reset)
            peaks.append(run(args.peak)["peak"])
        print(f"  peak memory  median {statistics.median(peaks):.1f} MiB  (max {max(peaks):.1f})")
        return
    pairs = []
    for number in range(args.n + 1):
        both = []
        for command in (args.a, args.b):
            reset(args.reset)
            both.append(run(command))
        if number > 0:  # the first pair warms caches and does not count
            pairs.append(both)
    for figure in ("cpu", "wall"):
        a = statistics.median(pair[0][figure] for pair in pairs)
        b = statistics.median(pair[1][figure] for pair in pairs)
        ratios = [pair[0][figure] / pair[1][figure] for pair in pairs if pair[1][figure] > 0]
        print(f"  {figure:4}  A {a:.3f} s  B {b:.3f} s  A/B median {statistics.median(ratios):.2f}  (min {min(ratios):.2f}, max {max(ratios):.2f}, {len(ratios)} pairs)")


main()
