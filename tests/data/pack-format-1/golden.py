#!/usr/bin/env python3
"""The digests in src/core/pack/golden_tests.rs, computed from docs/spec/pack-v1.md without any of packgate's code.

No test runs this. Run it to see where the golden digests come from: it prints one name and digest a line.
"""
import hashlib
import json


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def jcs(value):
    """RFC 8785 for what is needed here: ASCII keys, whole numbers, no control characters."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def pad(data):
    return data + b"\0" * (-len(data) % 512)


def ustar(name, prefix, mode, size, kind):
    def octal(value, width):
        return b"%0*o\0" % (width - 1, value)

    head = name.ljust(100, b"\0") + octal(mode, 8) + octal(0, 8) + octal(0, 8) + octal(size, 12) + octal(0, 12)
    tail = kind + b"\0" * 100 + b"ustar\x0000" + b"\0" * 64 + octal(0, 8) + octal(0, 8) + prefix.ljust(155, b"\0")
    tail = tail.ljust(512 - len(head) - 8, b"\0")
    total = sum(head) + sum(tail) + 8 * ord(" ")
    return head + b"%06o\0 " % total + tail


def pax(key, value):
    body = b" " + key + b"=" + value + b"\n"
    length = len(body)
    while length != len(body) + len(str(length)):
        length = len(body) + len(str(length))
    return str(length).encode() + body


def entry(path, mode, content, kind):
    raw = path.encode()
    if raw.isascii() and len(raw) <= 100:
        return ustar(raw, b"", mode, len(content), kind) + pad(content)
    if raw.isascii():
        # The last slash (the one that ends a folder's name does not count) that leaves a prefix of at most 155 bytes.
        at = raw[:-1][:156].rfind(b"/")
        if 0 < at <= 155 and len(raw) - at - 1 <= 100:
            return ustar(raw[at + 1:], raw[:at], mode, len(content), kind) + pad(content)
    record = pax(b"path", raw)
    short = raw[:100].decode(errors="ignore").encode()
    return ustar(b"PaxHeaders/packgate", b"", 0o644, len(record), b"x") + pad(record) + ustar(short, b"", mode, len(content), kind) + pad(content)


def tar(files):
    entries = {}
    for path, mode, content in files:
        parts = path.split("/")
        for depth in range(1, len(parts)):
            entries["/".join(parts[:depth]) + "/"] = (0o755, b"", b"5")
        entries[path] = (mode, content, b"0")
    names = sorted(entries, key=str.encode)
    return b"".join(entry(name, *entries[name]) for name in names) + b"\0" * 1024


def path_of(i):
    return [f"opt/f{i}", f"opt/d{i % 3}/f{i}", f"{'l' * 90}/{'m' * 60}/f{i}", f"ünï/日本/{i}", f"{'p' * 101}{i}"][i % 5]


def file_of(i, platforms=None):
    content = bytes([i % 251]) * (i * 37 % 1500)
    artifact = {"name": f"n{i}", "type": "file", "origin": f"files/{i}", "target": path_of(i), "checksum": digest(content),
                "size": len(content), "mode": "0755" if i % 3 == 0 else "0644"}
    if platforms:
        artifact["platforms"] = platforms
    return artifact, content


def descriptor(media_type, blob, **more):
    return {"mediaType": media_type, "digest": digest(blob), "size": len(blob), **more}


MANIFEST = "application/vnd.oci.image.manifest.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"


def runs(files):
    count = min(len(files), 63)
    length, longer = divmod(len(files), count)
    out = []
    for i in range(count):
        out.append([files.pop(0) for _ in range(length + (i < longer))])
    return out


def image(lock, files, platform=("linux", "amd64", None), created=None, annotations=None):
    layers = [tar([(".packgate/lock.json", 0o644, lock)])] + [tar(run) for run in runs(list(files))]
    config = {"architecture": platform[1], "os": platform[0], "config": {},
              "rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in layers]}}
    if platform[2]:
        config["variant"] = platform[2]
    if created:
        config["created"] = created
    config = jcs(config)
    return jcs({"schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor("application/vnd.oci.image.config.v1+json", config),
                "layers": [descriptor(LAYER, layer) for layer in layers], "annotations": own(lock, annotations)})


def own(lock, annotations=None):
    return {"dev.packgate.pack-format": "1", "dev.packgate.lock.digest": digest(lock), **(annotations or {})}


def artifact(lock, artifacts, files, created):
    layers = [descriptor("application/vnd.packgate.lock.v1+json", lock)]
    for (path, mode, content) in files:
        layers.append(descriptor("application/octet-stream", content, annotations={
            "org.opencontainers.image.title": path, "dev.packgate.file.mode": f"{mode:04o}"}))
    return jcs({"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "application/vnd.packgate.bundle.v1+json",
                "config": descriptor("application/vnd.oci.empty.v1+json", b"{}", data="e30="), "layers": layers,
                "annotations": own(lock, {"org.opencontainers.image.created": created})})


def lock_of(artifacts, entrypoint=None):
    lock = {"apiVersion": "packgate.dev/v1alpha1", "kind": "Lockfile", "packFormat": "1", "name": "golden", "version": "1.40",
            "artifacts": artifacts}
    if entrypoint:
        lock["entrypoint"] = entrypoint
    return jcs(lock)


def packed(pairs):
    return [(a["target"], int(a["mode"], 8), content) for a, content in pairs]


def main():
    for count in (5, 63, 64, 130):
        pairs = [file_of(i) for i in range(count)]
        lock = lock_of([a for a, _ in pairs])
        print(f"image-{count}", digest(image(lock, packed(pairs))))
    pairs = [file_of(i) for i in range(5)]
    lock = lock_of([a for a, _ in pairs])
    print("image-chosen", digest(image(lock, packed(pairs), created="2023-11-14T22:13:20Z", annotations={"a": "b \"ü\""})))
    print("artifact", digest(artifact(lock, [a for a, _ in pairs], packed(pairs), "1970-01-01T00:00:00Z")))

    pairs = [file_of(0), file_of(1, ["linux/amd64"]), file_of(2, ["linux/arm64/v8", "linux/amd64"]), file_of(3, ["linux/arm64/v8"])]
    script = b"#!/bin/sh\n"
    entrypoint = {"script": "files/run.sh", "mode": "0755", "checksum": digest(script), "size": len(script)}
    lock = lock_of([a for a, _ in pairs], entrypoint)
    manifests = []
    for text in ("linux/amd64", "linux/arm64/v8"):
        os, architecture, variant = (text.split("/") + [None])[:3]
        chosen = [pair for pair in pairs if text in pair[0].get("platforms", [text])]
        manifest = image(lock, packed(chosen) + [("run.sh", 0o755, script)], (os, architecture, variant))
        platform = {"os": os, "architecture": architecture, **({"variant": variant} if variant else {})}
        manifests.append(descriptor(MANIFEST, manifest, platform=platform))
    index = jcs({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": manifests, "annotations": own(lock)})
    print("index", digest(index))


if __name__ == "__main__":
    main()
