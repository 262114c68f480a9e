#!/bin/bash
# certs.sh: certificate authority, certificates, service account key and kubeconfigs (openssl, about 1 s)
# shellcheck source=../env.sh
. "$(dirname "$0")/../env.sh"
[ ! -f "$PKI/done" ] || exit 0
rm -rf "$PKI"; mkdir -p "$PKI"; cd "$PKI"
key() { openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1.key"; }

cert() { # NAME SUBJECT USAGE [ALTERNATIVE NAMES]
  key "$1"
  openssl req -new -key "$1.key" -subj "$2" -out "$1.csr"
  { echo basicConstraints=CA:FALSE; echo keyUsage=critical,digitalSignature; echo "extendedKeyUsage=$3"; [ -z "${4:-}" ] || echo "subjectAltName=$4"; } >"$1.ext"
  openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -extfile "$1.ext" -out "$1.crt" 2>/dev/null
  rm "$1.csr" "$1.ext"
}

client() { # NAME SUBJECT: certificate and kubeconfig
  cert "$1" "$2" clientAuth
  cat >"$STATE/$1.kubeconfig" <<K
apiVersion: v1
kind: Config
clusters: [{name: test, cluster: {server: "$API", certificate-authority-data: $(base64 -w0 ca.crt)}}]
users: [{name: user, user: {client-certificate-data: $(base64 -w0 "$1.crt"), client-key-data: $(base64 -w0 "$1.key")}}]
contexts: [{name: test, context: {cluster: test, user: user}}]
current-context: test
K
}

key ca
openssl req -x509 -new -key ca.key -subj /CN=test-cluster-ca -days 30 -out ca.crt \
  -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign,digitalSignature
openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out sa.key
openssl pkey -in sa.key -pubout -out sa.pub
names=DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local
cert apiserver /CN=kube-apiserver serverAuth "$names,IP:127.0.0.1,IP:$NODE_IP,IP:$API_SERVICE_IP"
cert kubelet-server "/CN=system:node:$NODE" serverAuth "DNS:$NODE,IP:$NODE_IP"
# A wildcard right below a top-level domain is none for rustls: hence *.tls.test
cert test-server /CN=test-server serverAuth "DNS:localhost,DNS:*.test,DNS:*.tls.test,IP:127.0.0.1,IP:$NODE_IP" # for servers of the tests
cert apiserver-kubelet /O=system:masters/CN=kube-apiserver clientAuth
client admin /O=system:masters/CN=admin
client controller-manager /CN=system:kube-controller-manager
client scheduler /CN=system:kube-scheduler
client proxy /CN=system:kube-proxy
client kubelet "/O=system:nodes/CN=system:node:$NODE"
client dns /CN=system:coredns
: >'done'
