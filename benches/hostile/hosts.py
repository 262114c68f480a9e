#!/usr/bin/env python3
"""S2: a BundlePolicy that names more registries than the webhook's configuration lists one by one.

It is to widen what the API server asks about, in namespaces that are not its own. Prints it; kubectl --as SOMEBODY -n NAMESPACE apply -f -
"""

import argparse
import json

parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
parser.add_argument("--count", type=int, default=33, help="registries (default: 33)")
arguments = parser.parse_args()

KEY = """-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt
6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==
-----END PUBLIC KEY-----
"""


def policy(name, references):
    return {
        "apiVersion": "packgate.dev/v1alpha1", "kind": "BundlePolicy", "metadata": {"name": name},
        "spec": {
            "match": {"references": references, "uses": ["PackedBundle", "ImageVolume", "Container"]},
            "authorities": [{"name": "nobody", "key": {"pem": KEY}}],
        },
    }


# One policy has room for 32 patterns or so; the hosts of several add up.
hosts = [f"registry-{n}.hostile.test/**" for n in range(arguments.count)]
items = [policy(f"hosts-{start // 16}", hosts[start:start + 16]) for start in range(0, len(hosts), 16)]
print(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
