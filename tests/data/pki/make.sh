#!/bin/sh
# make.sh: makes what lies here, anew, with openssl alone: a company's certificates (tests/tools/company.sh), signatures by them of
# "the judged manifest", and an RFC 3161 timestamp of one of them, made while its certificate was good. It is over an hour later.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
../../tools/company.sh "$work" "$(date -u -d '+1 hour' +%Y%m%d%H%M%SZ)"

digest=$(printf 'the judged manifest' | sha256sum | cut -d' ' -f1)
type=application/vnd.in-toto+json
printf '{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":"%s"}}],"predicateType":"https://sigstore.dev/cosign/sign/v1","predicate":{}}' "$digest" >"$work/payload"
printf 'DSSEv1 %d %s %d ' "${#type}" "$type" "$(wc -c <"$work/payload")" | cat - "$work/payload" >"$work/pae"

# bundle WHO OUT TIMESTAMPS
bundle() {
  printf '{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":{"certificate":{"rawBytes":"%s"}%s},"dsseEnvelope":{"payload":"%s","payloadType":"%s","signatures":[{"sig":"%s"}]}}\n' \
    "$(openssl x509 -in "$work/$1.crt" -outform DER | base64 -w0)" "$3" "$(base64 -w0 "$work/payload")" "$type" "$(base64 -w0 "$work/$1.sig")" >"$2"
}

for who in release revoked; do
  openssl dgst -sha256 -sign "$work/$who.key" -out "$work/$who.sig" "$work/pae"
  bundle "$who" "$who.json" ""
done

# The timestamp authority: a root, and a certificate that does nothing else.
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$work/tsa-root.key" -out "$work/tsa-root.pem" -days 3650 \
  -subj "/O=Corp/CN=Corp Time Root" -addext keyUsage=critical,keyCertSign 2>/dev/null
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$work/tsa.key" -out "$work/tsa.csr" -subj "/O=Corp/CN=Corp Time" 2>/dev/null
printf 'basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=critical,timeStamping\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n' >"$work/tsa.ext"
openssl x509 -req -in "$work/tsa.csr" -CA "$work/tsa-root.pem" -CAkey "$work/tsa-root.key" -CAcreateserial -days 3650 -extfile "$work/tsa.ext" \
  -out "$work/tsa.pem" 2>/dev/null
cat >"$work/tsa.cnf" <<CONF
[tsa]
default_tsa = own
[own]
serial = $work/tsa.serial
crypto_device = builtin
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256
accuracy = secs:1
ess_cert_id_alg = sha256
CONF
echo 01 >"$work/tsa.serial"
openssl ts -query -data "$work/release.sig" -sha256 -cert -no_nonce -out "$work/query" 2>/dev/null
openssl ts -reply -queryfile "$work/query" -config "$work/tsa.cnf" -signer "$work/tsa.pem" -inkey "$work/tsa.key" -out "$work/reply" 2>/dev/null
signed=$(date -u +%Y-%m-%dT%H:%M:%SZ)
bundle release timestamped.json ",\"timestampVerificationData\":{\"rfc3161Timestamps\":[{\"signedTimestamp\":\"$(base64 -w0 "$work/reply")\"}]}"
der() { openssl x509 -in "$1" -outform DER | base64 -w0; }
printf '{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1","timestampAuthorities":[{"subject":{"organization":"Corp","commonName":"Corp Time"},"uri":"https://time.example.com","certChain":{"certificates":[{"rawBytes":"%s"},{"rawBytes":"%s"}]},"validFor":{"start":"2026-01-01T00:00:00Z"}}]}\n' \
  "$(der "$work/tsa.pem")" "$(der "$work/tsa-root.pem")" >trusted_root.json
cp "$work/ca.crt" "$work/ca.crl" "$work/none.crl" .
openssl crl -in "$work/signing/ca.crl" -outform DER -out signing.crl
printf '{"signed":"%s"}\n' "$signed" >times.json
