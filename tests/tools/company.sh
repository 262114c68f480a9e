#!/bin/sh
# company.sh DIR [END]: a company's certificate authority, made by openssl (about 1 s): root and intermediate (ca.crt), who signs
# (release.key, release.crt, spiffe://corp.example.com/release), whose certificate is revoked (revoked.key, revoked.crt, the same name),
# revocation lists of both issuers (ca.crl; none.crl is the same without the revocation), and a stranger with the same names
# (stranger/…). END is when the signers' certificates end, as YYYYMMDDHHMMSSZ; default: in 30 days.
set -eu
[ $# -ge 1 ] || { echo "usage: company.sh DIR [END]" >&2; exit 2; }
mkdir -p "$1"
cd "$1"
begin=$(date -u -d '-1 hour' +%Y%m%d%H%M%SZ)
end=${2:-$(date -u -d '+30 days' +%Y%m%d%H%M%SZ)}
name=spiffe://corp.example.com/release

key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1" 2>/dev/null; }

# config FOLDER: openssl's bookkeeping of one issuer.
config() {
  mkdir -p "$1/new"
  : >"$1/index"
  echo 1000 >"$1/serial"
  echo 01 >"$1/crlnumber"
  cat >"$1/ca.cnf" <<CONF
[ca]
default_ca = issuer
[issuer]
database = $1/index
serial = $1/serial
crlnumber = $1/crlnumber
new_certs_dir = $1/new
certificate = $1/ca.pem
private_key = $1/ca.key
default_md = sha256
default_days = 3650
default_crl_days = 3650
policy = any
unique_subject = no
[req]
distinguished_name = any
[any]
commonName = supplied
[ca_ext]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[intermediate_ext]
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[leaf_ext]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = codeSigning
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = URI:$name
CONF
}

# issue ISSUER EXTENSIONS SUBJECT KEY OUT DATES…
issue() {
  issuer=$1 extensions=$2 subject=$3 from=$4 out=$5
  shift 5
  openssl req -new -key "$from" -subj "/CN=$subject" -out request.csr
  openssl ca -batch -notext -config "$issuer/ca.cnf" -extensions "$extensions" -in request.csr -out "$out" "$@" 2>/dev/null
  rm request.csr
}

company() {
  config root
  config signing
  key root/ca.key
  key signing/ca.key
  openssl req -new -x509 -key root/ca.key -subj "/CN=Corp Root" -days 3650 -config root/ca.cnf -extensions ca_ext -out root/ca.pem
  issue root intermediate_ext "Corp Signing" signing/ca.key signing/ca.pem
  for who in release revoked; do
    key "$who.key"
    issue signing leaf_ext "$who" "$who.key" "$who.crt" -startdate "$begin" -enddate "$end"
  done
  openssl ca -config root/ca.cnf -gencrl -out root/ca.crl 2>/dev/null
  openssl ca -config signing/ca.cnf -gencrl -out signing/none.crl 2>/dev/null
  openssl ca -config signing/ca.cnf -revoke revoked.crt 2>/dev/null
  openssl ca -config signing/ca.cnf -gencrl -out signing/ca.crl 2>/dev/null
  cat root/ca.pem signing/ca.pem >ca.crt
  cat root/ca.crl signing/ca.crl >ca.crl
  cat root/ca.crl signing/none.crl >none.crl
}

company
mkdir -p stranger
(cd stranger && company)
