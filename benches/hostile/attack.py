#!/usr/bin/env python3
"""Sends the same objects to the API server without pause, or once in a while, and counts the answers. Prints JSON.

    kubectl --as SOMEBODY proxy --port 8011 &
    attack.py 8011 '/api/v1/namespaces/NAMESPACE/pods?dryRun=All' pod.json --seconds 180 --parallel 4
    attack.py 8011 /api/v1/namespaces/NAMESPACE/configmaps/NAME list-0.json list-1.json --method PUT --seconds 180

By `kubectl proxy`, because starting kubectl for each of them would be most of the work.
"""

import argparse
import collections
import http.client
import json
import threading
import time

parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
parser.add_argument("port", type=int, help="where kubectl proxy listens on this machine")
parser.add_argument("path", help="of the API")
parser.add_argument("files", nargs="+", help="bodies, in turn")
parser.add_argument("--method", default="POST")
parser.add_argument("--seconds", type=float, default=180)
parser.add_argument("--parallel", type=int, default=1)
parser.add_argument("--every", type=float, default=0, help="seconds from one request to the next (default: no pause)")
arguments = parser.parse_args()
bodies = [open(name, "rb").read() for name in arguments.files]
counts, reasons, lock = collections.Counter(), collections.Counter(), threading.Lock()


def reason(text):
    """The first reason that the webhook gave."""
    try:
        causes = json.loads(text).get("details", {}).get("causes", [])
        return causes[0].get("reason", "") if causes else ""
    except (ValueError, AttributeError):
        return ""


def work():
    connection = http.client.HTTPConnection("127.0.0.1", arguments.port, timeout=30)
    end, n = time.monotonic() + arguments.seconds, 0
    while time.monotonic() < end:
        begun = time.monotonic()
        try:
            connection.request(arguments.method, arguments.path, body=bodies[n % len(bodies)], headers={"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
            with lock:
                counts[answer.status] += 1
                if answer.status >= 300:
                    reasons[reason(text) or text[:120].decode(errors="replace")] += 1
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            with lock:
                counts["error"] += 1
                reasons[type(error).__name__] += 1
            time.sleep(0.1)
        n += 1
        time.sleep(max(0.0, min(arguments.every - (time.monotonic() - begun), end - time.monotonic())))


workers = [threading.Thread(target=work) for _ in range(arguments.parallel)]
for worker in workers:
    worker.start()
for worker in workers:
    worker.join()
print(json.dumps({"sent": sum(counts.values()), "answers": {str(status): count for status, count in counts.items()}, "reasons": reasons.most_common(5)}))
