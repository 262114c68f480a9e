#!/bin/bash
# smoke/job.sh: a locked-down Job sees its Secret and token, cluster DNS, the API by Service name (403 from RBAC, as it should) and
# the registry; its output comes back through API server and kubelet.
# shellcheck source=../env.sh
. "$(dirname "$0")/../env.sh"
inside "$@"
ns=smoke-job-$RANDOM
kubectl create namespace $ns >/dev/null; trap 'kubectl delete namespace $ns --wait=false >/dev/null' EXIT
kubectl label namespace $ns pod-security.kubernetes.io/enforce=restricted >/dev/null
kubectl -n $ns create secret generic s --from-literal=password=hunter2 >/dev/null
registry=http://$REGISTRY/v2/
! existing || registry=
t=$(now)
kubectl -n $ns create -f - >/dev/null <<K
apiVersion: batch/v1
kind: Job
metadata: {name: job}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      securityContext: {runAsNonRoot: true, runAsUser: 1000, seccompProfile: {type: RuntimeDefault}}
      containers:
      - name: main
        image: $IMAGE
        command: [sh, -ec]
        args:
        - |
          id -u; cat /secret/password; echo
          cut -d. -f2 /token/token | tr -d '\n' | wc -c
          nslookup kubernetes.default.svc.cluster.local | grep -A1 'Name:'
          test -z "$registry" || probe get $registry
          sa=/var/run/secrets/kubernetes.io/serviceaccount
          probe get https://kubernetes.default.svc/api/v1/namespaces/$ns/secrets/s \$sa/ca.crt \$sa/token
        resources: {limits: {memory: 64Mi, cpu: 500m}}
        securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
        volumeMounts: [{name: s, mountPath: /secret, readOnly: true}, {name: t, mountPath: /token, readOnly: true}]
      volumes:
      - {name: s, secret: {secretName: s}}
      - {name: t, projected: {sources: [{serviceAccountToken: {audience: sigstore, expirationSeconds: 600, path: token}}]}}
K
kubectl -n $ns wait --for=condition=Complete job/job --timeout=60s >/dev/null || { kubectl -n $ns describe pods >&2; kubectl -n $ns logs job/job >&2; die "the Job did not complete"; }
took=$(since "$t")
out=$(kubectl -n $ns logs job/job)
wants=(hunter2 '403 Forbidden')
existing || wants+=("Address: $API_SERVICE_IP" '200 OK')
for want in "${wants[@]}"; do grep -qF "$want" <<<"$out" || die "missing '$want' in: $out"; done
say "ok job: $took from apply to Complete"
