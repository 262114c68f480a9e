"""The little of the distribution API that the inputs need, and what they have in common. Python's standard library only."""

import hashlib
import http.client
import json
import re

BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
EMPTY = "application/vnd.oci.empty.v1+json"


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def size(text):
    """4MiB, 256KiB, or a number of bytes."""
    number, unit = re.fullmatch(r"(\d+)(KiB|MiB|)", text).groups()
    return int(number) << {"": 0, "KiB": 10, "MiB": 20}[unit]


class Repository:
    """HOST:PORT and a path, over plain HTTP."""

    def __init__(self, host, path):
        self.host, self.path = host, path
        self.connection = http.client.HTTPConnection(host, timeout=60)

    def _ask(self, method, url, body=None, content_type="application/octet-stream"):
        self.connection.request(method, url, body=body, headers={"Content-Type": content_type})
        answer = self.connection.getresponse()
        said = answer.read()
        if answer.status >= 300:
            raise SystemExit(f"{method} {url}: {answer.status} {said[:200]!r}")
        return answer

    def push_blob(self, data):
        location = self._ask("POST", f"/v2/{self.path}/blobs/uploads/", b"").getheader("Location")
        url = re.sub(r"^https?://[^/]+", "", location)
        url += ("&" if "?" in url else "?") + "digest=" + digest(data)
        self._ask("PUT", url, data)
        return {"digest": digest(data), "size": len(data)}

    def push_manifest(self, document, tag=None):
        data = json.dumps(document).encode()
        self._ask("PUT", f"/v2/{self.path}/manifests/{tag or digest(data)}", data, document["mediaType"])
        return {"mediaType": document["mediaType"], "digest": digest(data), "size": len(data)}
