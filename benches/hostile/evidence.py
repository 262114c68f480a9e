#!/usr/bin/env python3
"""S3 and S6: an image with many large bundles that nobody trusted has signed. Prints its reference.

    evidence.py REGISTRY REPOSITORY --count 256 --size 4MiB      S3: their bytes
    evidence.py REGISTRY REPOSITORY --count 128 --size 256KiB    S6: trying every key on each of them (keys.py)

The registry speaks plain HTTP. Each bundle is a well-formed DSSE envelope about the image, with an ECDSA signature of random numbers, and no
hint of its key: whoever wants to know whether it is a signature has to hash the payload and try.
"""

import argparse
import base64
import json
import os

from registry import BUNDLE, EMPTY, INDEX, MANIFEST, Repository, digest, size

parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
parser.add_argument("registry", help="HOST:PORT")
parser.add_argument("repository", help="its path in the registry")
parser.add_argument("--count", type=int, default=256, help="bundles (default: 256)")
parser.add_argument("--size", type=size, default=size("4MiB"), help="of each, such as 4MiB (default) or 256KiB")
arguments = parser.parse_args()


def number():
    """A positive DER integer of a P-521 signature."""
    value = b"\x01" + os.urandom(64)
    return b"\x02" + bytes([len(value)]) + value


def signature():
    both = number() + number()
    return b"\x30\x81" + bytes([len(both)]) + both


def bundle(image, length):
    def document(padding):
        statement = {
            "_type": "https://in-toto.io/Statement/v1", "predicateType": "https://sigstore.dev/cosign/sign/v1",
            "subject": [{"digest": {"sha256": image.removeprefix("sha256:")}}],
            "predicate": {"padding": padding},
        }
        payload = base64.b64encode(json.dumps(statement).encode()).decode()
        envelope = {"payload": payload, "payloadType": "application/vnd.in-toto+json", "signatures": [{"sig": base64.b64encode(signature()).decode()}]}
        return json.dumps({"mediaType": BUNDLE, "verificationMaterial": {"publicKey": {"hint": ""}}, "dsseEnvelope": envelope}).encode()

    room = (length - len(document("")) - 64) * 3 // 4  # base64, and the limit includes all of the document
    random = base64.b64encode(os.urandom(max(room, 0) * 3 // 4)).decode()
    return document(random[:room])


repository = Repository(arguments.registry, arguments.repository)
image = repository.push_manifest({"schemaVersion": 2, "mediaType": INDEX, "manifests": [], "annotations": {"hostile": f"{arguments.count} of {arguments.size}"}}, "hostile")
config = {"mediaType": EMPTY, **repository.push_blob(b"{}")}
for n in range(arguments.count):
    layer = {"mediaType": BUNDLE, **repository.push_blob(bundle(image["digest"], arguments.size))}
    repository.push_manifest({"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": BUNDLE, "config": config, "layers": [layer], "subject": image})
print(f"{arguments.registry}/{arguments.repository}@{image['digest']}")
