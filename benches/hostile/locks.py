#!/usr/bin/env python3
"""S4: PackedBundles whose locks cost much to plan: many artifacts, which belong to each of many platforms.

    locks.py --artifacts 4500 >inline.json                       a lock in the object, about 870 kB; to be tried (dryRun=All), again and again
    locks.py --artifacts 3000 --platforms 64 --stored >list.json the lock in a ConfigMap, and a PackedBundle of it, for the controller
"""

import argparse
import json

parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
parser.add_argument("--artifacts", type=int, default=4500)
parser.add_argument("--platforms", type=int, default=0, help="that the first artifact names; the others belong to all of them (default: none)")
parser.add_argument("--stored", action="store_true", help="print a List: a ConfigMap with the lock, and a PackedBundle that names it")
parser.add_argument("--name", default="hostile")
parser.add_argument("--repository", default="registry.test:5000/hostile/locks")
arguments = parser.parse_args()

ARCHITECTURES = ["amd64", "arm64", "arm", "386", "ppc64le", "s390x", "riscv64", "mips64le"]
platforms = [f"linux/{ARCHITECTURES[n % 8]}/v{n // 8}" for n in range(arguments.platforms)]


def artifact(n):
    # As short as it can be: what counts is how many there are.
    made = {"name": f"a{n}", "type": "http", "origin": f"http://x.test/{n}", "target": f"t/{n}", "checksum": f"sha256:{n:064x}", "size": 1}
    return {**made, "platforms": platforms} if platforms and n == 0 else made


lock = json.dumps({"apiVersion": "packgate.dev/v1alpha1", "kind": "Lockfile", "name": arguments.name,
                   "artifacts": [artifact(n) for n in range(arguments.artifacts)]}, separators=(",", ":"))


def packed_bundle(source):
    return {"apiVersion": "packgate.dev/v1alpha1", "kind": "PackedBundle", "metadata": {"name": arguments.name},
            "spec": {"source": source, "destination": {"repository": arguments.repository}}}


if arguments.stored:
    stored = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": arguments.name}, "data": {"lock.yaml": lock}}
    print(json.dumps({"apiVersion": "v1", "kind": "List", "items": [stored, packed_bundle({"configMapRef": {"name": arguments.name}})]}))
else:
    print(json.dumps(packed_bundle({"inline": lock})))
