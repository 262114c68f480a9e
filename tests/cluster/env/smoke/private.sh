#!/bin/bash
# smoke/private.sh: a registry that a test starts for itself, with TLS and passwords, as README.md says: crane pushes to it, a Pod with
# the pull secret gets its image, a Pod without does not.
# shellcheck source=../env.sh
. "$(dirname "$0")/../env.sh"
inside "$@"
ns=smoke-private-$RANDOM
host=private.test:$((20000 + RANDOM % 10000))
w=$(mktemp -d)
t=$(now)
test-registry -listen "$NODE_IP:${host#*:}" -tls-cert "$PKI/test-server.crt" -tls-key "$PKI/test-server.key" -auth token -user team -password hunter2 >"$w/log" 2>&1 &
server=$!
trap 'kill $server; rm -rf "$w" "$STATE/certs.d/$host"; kubectl delete namespace $ns --wait=false >/dev/null' EXIT
kubectl create namespace $ns >/dev/null
until_true 5 grep -q listening "$w/log" || die "the registry does not start: $(cat "$w/log")"

mkdir -p "$STATE/certs.d/$host" "$w/docker"
printf 'server = "https://%s"\nca = "%s"\n' "$host" "$PKI/ca.crt" >"$STATE/certs.d/$host/hosts.toml"
export DOCKER_CONFIG=$w/docker SSL_CERT_FILE=$PKI/ca.crt
crane pull --insecure "$IMAGE" "$w/image.tar"
! crane push "$w/image.tar" "$host/team/image:1" >/dev/null 2>&1 || die "$host takes images without a password"
crane auth login "$host" -u team -p hunter2 >/dev/null 2>&1
crane push "$w/image.tar" "$host/team/image:1" >/dev/null 2>&1 || die "cannot push to $host with the password"

kubectl -n $ns create secret docker-registry pull --docker-server="$host" --docker-username=team --docker-password=hunter2 >/dev/null
run() { # NAME PULL-SECRETS
  kubectl -n $ns run "$1" --image="$host/team/image:1" --image-pull-policy=Always --restart=Never \
    --overrides="{\"apiVersion\": \"v1\", \"spec\": {\"imagePullSecrets\": $2}}" --command -- true >/dev/null
}
refused() { [[ $(kubectl -n $ns get pod without -o jsonpath='{.status.containerStatuses[0].state.waiting.reason}') = *Pull* ]]; }
until_true 10 kubectl -n $ns get serviceaccount default
run with '[{"name": "pull"}]'
run without '[]'
kubectl -n $ns wait --for=jsonpath='{.status.phase}'=Succeeded pod/with --timeout=30s >/dev/null || { kubectl -n $ns describe pod with >&2; die "no pull with the secret"; }
until_true 20 refused || die "an image was pulled without the secret"
say "ok registry with TLS and passwords: $(since "$t")"
