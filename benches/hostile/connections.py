#!/usr/bin/env python3
"""S7: connections that never come to their end. For so many seconds, each kind is kept at its number: what the server ends is opened again.

    connections.py HOST PORT --seconds 180

half heads: a request whose headers stop. half bodies: 8 MiB are announced, 4 MiB are sent. silent: TLS, and no request. plain: TCP, and no
TLS. Prints, as JSON, how many were opened and how many the server ended of each.
"""

import argparse
import json
import select
import socket
import ssl
import time

parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
parser.add_argument("host")
parser.add_argument("port", type=int)
parser.add_argument("--seconds", type=float, default=180)
parser.add_argument("--half-heads", type=int, default=50)
parser.add_argument("--half-bodies", type=int, default=25)
parser.add_argument("--silent", type=int, default=100)
parser.add_argument("--plain", type=int, default=100)
arguments = parser.parse_args()

context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
context.set_alpn_protocols(["http/1.1"])
HEAD = b"POST /uses HTTP/1.1\r\nHost: webhook\r\nContent-Type: application/json\r\n"
WANTED = {"half-heads": arguments.half_heads, "half-bodies": arguments.half_bodies, "silent": arguments.silent, "plain": arguments.plain}


def connect(kind):
    plain = socket.create_connection((arguments.host, arguments.port), timeout=2)
    if kind == "plain":
        return plain
    try:
        connection = context.wrap_socket(plain)
        if kind == "half-heads":
            connection.sendall(HEAD)
        elif kind == "half-bodies":
            connection.sendall(HEAD + b"Content-Length: 8388608\r\n\r\n")
            connection.sendall(b'{"apiVersion":"' + b"x" * (4 << 20))
        return connection
    except OSError:
        plain.close()
        raise


def has_ended(connection):
    try:
        return not connection.recv(1)
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    except OSError:
        return True


held = {kind: [] for kind in WANTED}
counts = {kind: {"opened": 0, "ended": 0, "refused": 0, "most": 0} for kind in WANTED}
end = time.monotonic() + arguments.seconds
while time.monotonic() < end:
    for kind, wanted in WANTED.items():
        readable = set(select.select(held[kind], [], [], 0)[0]) if held[kind] else set()
        for connection in [connection for connection in readable if has_ended(connection)]:
            held[kind].remove(connection)
            connection.close()
            counts[kind]["ended"] += 1
        # A few at a time, so that every kind has its turn.
        for _ in range(min(10, wanted - len(held[kind]))):
            try:
                connection = connect(kind)
                connection.setblocking(False)
                held[kind].append(connection)
                counts[kind]["opened"] += 1
            except OSError:
                counts[kind]["refused"] += 1
                break
        counts[kind]["most"] = max(counts[kind]["most"], len(held[kind]))
    time.sleep(0.1)
print(json.dumps(counts))
