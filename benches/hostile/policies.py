#!/usr/bin/env python3
"""S5: policies that share one large revocation list, and are compiled anew whenever it changes.

    policies.py FOLDER PATTERN      such as: policies.py out 'registry.test:5000/team/**'

Writes FOLDER/policies.json, a List of the ConfigMaps and BundlePolicies, and FOLDER/list-0.json and list-1.json, the ConfigMap with the list in
two versions: putting them in turn is an edit each time. Needs openssl.
"""

import argparse
import json
import pathlib
import subprocess

parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
parser.add_argument("folder", type=pathlib.Path)
parser.add_argument("pattern", help="the references that the policies govern")
parser.add_argument("--serials", type=int, default=19_500, help="revoked certificates (default: 19500, about 555 kB in PEM)")
parser.add_argument("--policies", type=int, default=4)
parser.add_argument("--authorities", type=int, default=16, help="of each policy (default: 16)")
arguments = parser.parse_args()
folder = arguments.folder
folder.mkdir(parents=True, exist_ok=True)


def openssl(*line):
    subprocess.run(["openssl", *line], cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


(folder / "ca.cnf").write_text("""[ca]
default_ca = it
[it]
database = index.txt
crlnumber = crlnumber
certificate = ca.crt
private_key = ca.key
default_md = sha256
default_crl_days = 30
crl_extensions = extensions
[extensions]
authorityKeyIdentifier = keyid
[req]
distinguished_name = name
x509_extensions = ca_extensions
[name]
[ca_extensions]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
""")
(folder / "index.txt").write_text("".join(f"R\t300101000000Z\t261101000000Z\t{0x10000 + n:06X}\tunknown\t/CN={n}\n" for n in range(arguments.serials)))
openssl("req", "-x509", "-config", "ca.cnf", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30", "-subj", "/CN=hostile",
        "-keyout", "ca.key", "-out", "ca.crt")


def config_map(name, data):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def revocation_list(number):
    (folder / "crlnumber").write_text(f"{number + 1:04X}\n")
    openssl("ca", "-config", "ca.cnf", "-gencrl", "-out", f"{number}.crl")
    made = config_map("hostile-crl", {"ca.crl": (folder / f"{number}.crl").read_text()})
    (folder / f"list-{number}.json").write_text(json.dumps(made))
    return made


def authority(n):
    named = {"kind": "ConfigMap", "name": "hostile-ca"}, {"kind": "ConfigMap", "name": "hostile-crl"}
    return {"name": f"a{n}", "certificate": {"caRef": named[0], "crlRef": named[1], "subject": {"exact": f"spiffe://hostile.test/{n}"}}}


def policy(n):
    spec = {"match": {"references": [arguments.pattern]}, "authorities": [authority(at) for at in range(arguments.authorities)]}
    return {"apiVersion": "packgate.dev/v1alpha1", "kind": "BundlePolicy", "metadata": {"name": f"lists-{n}"}, "spec": spec}


maps = [config_map("hostile-ca", {"ca.crt": (folder / "ca.crt").read_text()}), revocation_list(0)]
revocation_list(1)
items = maps + [policy(n) for n in range(arguments.policies)]
(folder / "policies.json").write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
