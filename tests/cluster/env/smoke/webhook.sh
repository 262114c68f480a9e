#!/bin/bash
# smoke/webhook.sh: a validating webhook in a Deployment, called through its Service
# shellcheck source=../env.sh
. "$(dirname "$0")/../env.sh"
inside "$@"
ns=smoke-webhook-$RANDOM
w=$(mktemp -d)
trap 'rm -rf "$w"; kubectl delete validatingwebhookconfiguration $ns --ignore-not-found >/dev/null; kubectl delete namespace $ns --wait=false >/dev/null' EXIT
kubectl create namespace $ns >/dev/null
t=$(now)
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$w/key" -x509 -days 1 -subj /CN=webhook -addext "subjectAltName=DNS:webhook.$ns.svc" -out "$w/crt" 2>/dev/null
kubectl -n $ns create secret tls tls --cert="$w/crt" --key="$w/key" >/dev/null
kubectl -n $ns create -f - >/dev/null <<K
apiVersion: apps/v1
kind: Deployment
metadata: {name: webhook}
spec:
  selector: {matchLabels: {app: webhook}}
  template:
    metadata: {labels: {app: webhook}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: main
        image: $IMAGE
        command: [probe, serve, ":9443", /tls/tls.crt, /tls/tls.key]
        readinessProbe: {tcpSocket: {port: 9443}, periodSeconds: 1}
        volumeMounts: [{name: tls, mountPath: /tls}]
      volumes: [{name: tls, secret: {secretName: tls}}]
---
apiVersion: v1
kind: Service
metadata: {name: webhook}
spec: {selector: {app: webhook}, ports: [{port: 443, targetPort: 9443}]}
K
kubectl -n $ns rollout status deployment/webhook --timeout=60s >/dev/null
kubectl create -f - >/dev/null <<K
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: $ns}
webhooks:
- name: configmaps.example.com
  clientConfig: {service: {name: webhook, namespace: $ns}, caBundle: $(base64 -w0 "$w/crt")}
  rules: [{apiGroups: [""], apiVersions: [v1], resources: [configmaps], operations: [CREATE]}]
  namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: $ns}}
  sideEffects: None
  admissionReviewVersions: [v1]
K
create() { printf 'apiVersion: v1\nkind: ConfigMap\nmetadata: {generateName: c-, labels: {deny: "%s"}}\n' "$1" | kubectl -n $ns create -f - 2>&1; }
# a new configuration takes effect after a moment; a denial shows that it has
for _ in $(seq 50); do if out=$(create yes); then sleep 0.1; else break; fi; done
grep -q 'denied by probe' <<<"$out" || die "not denied by the webhook: $out"
create no >/dev/null || die "an allowed object is refused"
say "ok webhook: $(since "$t")"
