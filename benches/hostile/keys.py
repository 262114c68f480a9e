#!/usr/bin/env python3
"""S6: policies with many keys of the curve that costs most, all for the same references. Prints a List.

    keys.py 'registry.test:5000/team/**' | kubectl --as SOMEBODY -n NAMESPACE apply -f -

With an image of evidence.py --count 128 --size 256KiB every bundle could be by any of these keys. Needs openssl.
"""

import argparse
import json
import subprocess

parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
parser.add_argument("pattern", help="the references that the policies govern")
parser.add_argument("--policies", type=int, default=8)
parser.add_argument("--keys", type=int, default=16, help="of each policy (default: 16)")
arguments = parser.parse_args()


def key():
    made = subprocess.run(["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"], check=True, capture_output=True)
    return subprocess.run(["openssl", "pkey", "-pubout"], input=made.stdout, check=True, capture_output=True).stdout.decode()


def policy(n):
    spec = {"match": {"references": [arguments.pattern]}, "authorities": [{"name": f"k{at}", "key": {"pem": key()}} for at in range(arguments.keys)]}
    return {"apiVersion": "packgate.dev/v1alpha1", "kind": "BundlePolicy", "metadata": {"name": f"keys-{n}"}, "spec": spec}


print(json.dumps({"apiVersion": "v1", "kind": "List", "items": [policy(n) for n in range(arguments.policies)]}))
