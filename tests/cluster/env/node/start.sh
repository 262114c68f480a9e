#!/bin/bash
# start.sh NAME [FLAG...]: start one component and wait until it is ready. Flags are added to its command line.
# shellcheck source=../env.sh
. "$(dirname "$0")/../env.sh"

start_etcd() {
  bg etcd etcd --data-dir "$STATE/etcd" --unsafe-no-fsync --log-level warn "$@"
  wait_for 20 etcd curl -sf http://127.0.0.1:2379/health
}

start_apiserver() {
  # --enable-aggregator-routing: webhooks named by Service are called at their endpoints, without kube-proxy
  bg apiserver kube-apiserver --etcd-servers=http://127.0.0.1:2379 --bind-address=$NODE_IP --advertise-address=$NODE_IP --secure-port=6443 \
    --tls-cert-file="$PKI/apiserver.crt" --tls-private-key-file="$PKI/apiserver.key" --client-ca-file="$PKI/ca.crt" --cert-dir="$STATE/apiserver" \
    --service-account-issuer=$ISSUER --service-account-key-file="$PKI/sa.pub" --service-account-signing-key-file="$PKI/sa.key" \
    --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --service-cluster-ip-range=$SERVICE_CIDR --allow-privileged=true \
    --kubelet-client-certificate="$PKI/apiserver-kubelet.crt" --kubelet-client-key="$PKI/apiserver-kubelet.key" --kubelet-certificate-authority="$PKI/ca.crt" \
    --kubelet-preferred-address-types=InternalIP --enable-aggregator-routing=true --profiling=false "$@"
  wait_for 120 apiserver curl -sf --cacert "$PKI/ca.crt" --cert "$PKI/admin.crt" --key "$PKI/admin.key" "$API/readyz"
}

start_controller-manager() {
  local k=$STATE/controller-manager.kubeconfig
  # with the default --kube-api-qps the first namespaces get their ServiceAccount only after 5 s
  bg controller-manager kube-controller-manager --kubeconfig="$k" --authentication-kubeconfig="$k" --authorization-kubeconfig="$k" \
    --bind-address=127.0.0.1 --cert-dir="$STATE/controller-manager" --leader-elect=false --use-service-account-credentials=true \
    --service-account-private-key-file="$PKI/sa.key" --root-ca-file="$PKI/ca.crt" --cluster-signing-cert-file="$PKI/ca.crt" \
    --cluster-signing-key-file="$PKI/ca.key" --service-cluster-ip-range=$SERVICE_CIDR --cluster-cidr=$POD_CIDR \
    --kube-api-qps=500 --kube-api-burst=1000 "$@"
  wait_for 60 controller-manager curl -skf https://127.0.0.1:10257/healthz
  wait_for 60 controller-manager kubectl get serviceaccount default -n default
}

start_scheduler() {
  local k=$STATE/scheduler.kubeconfig
  bg scheduler kube-scheduler --kubeconfig="$k" --authentication-kubeconfig="$k" --authorization-kubeconfig="$k" \
    --bind-address=127.0.0.1 --cert-dir="$STATE/scheduler" --leader-elect=false "$@"
  wait_for 60 scheduler curl -skf https://127.0.0.1:10259/readyz
}

# the registry with the referrers API: ours, tests/tools/registry
start_registry() {
  rm -rf "$STATE/registry" # it knows only what is pushed to it from now on
  bg registry test-registry -listen "$NODE_IP:${REGISTRY#*:}" -dir "$STATE/registry" -log "$REQUESTS/registry.jsonl" \
    -hold "$REQUESTS/registry.hold" "$@"
  wait_for 10 registry curl -s "http://$REGISTRY/v2/"
}

# the registry without: distribution, behind a proxy that writes its request log
start_plain() {
  cat >"$STATE/plain.yaml" <<K
version: 0.1
log: {level: warn, formatter: json, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: $STATE/plain}, delete: {enabled: true}}
http: {addr: "127.0.0.1:5011", secret: test}
K
  OTEL_TRACES_EXPORTER=none bg plain.distribution distribution serve "$STATE/plain.yaml"
  wait_for 10 plain.distribution curl -sf http://127.0.0.1:5011/v2/
  bg plain accesslog -listen "$NODE_IP:${PLAIN#*:}" -upstream http://127.0.0.1:5011 -log "$REQUESTS/plain.jsonl" "$@"
  wait_for 10 plain curl -sf "http://$PLAIN/v2/"
}

start_containerd() {
  local r
  for r in $REGISTRY $PLAIN; do # plain http; folders for more registries may be added at any time
    mkdir -p "$STATE/certs.d/$r"
    printf 'server = "http://%s"\n[host."http://%s"]\n  capabilities = ["pull", "resolve"]\n' "$r" "$r" >"$STATE/certs.d/$r/hosts.toml"
  done
  # restrict_oom_score_adj: without CAP_SYS_RESOURCE every sandbox would fail ("can't get final child's PID from pipe: EOF")
  cat >"$STATE/containerd.toml" <<K
version = 3
root = "$STATE/containerd"
state = "/run/containerd/state"
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.cri.v1.images"]
  snapshotter = "overlayfs"
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = "$PLAIN/pause:1"
  [plugins."io.containerd.cri.v1.images".registry]
    config_path = "$STATE/certs.d"
[plugins."io.containerd.cri.v1.runtime"]
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
      BinaryName = "$(deb_program runc)"
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["$BIN"]
    conf_dir = "/etc/cni/net.d"
K
  rm -f /run/containerd/containerd.sock
  bg containerd containerd --config "$STATE/containerd.toml" "$@"
  wait_for 20 containerd test -S /run/containerd/containerd.sock
}

make_cgroups() { # kubelet wants its root group to be there
  if [ -f /sys/fs/cgroup/cgroup.controllers ]; then # version 2
    echo '+cpuset +cpu +memory +pids' >/sys/fs/cgroup/cgroup.subtree_control
    mkdir -p "/sys/fs/cgroup/$CGROUP"
    return
  fi
  local d f # version 1: in every hierarchy
  for d in /sys/fs/cgroup/*/; do mkdir -p "$d$CGROUP"; done
  for f in cpuset.cpus cpuset.mems; do cat "/sys/fs/cgroup/cpuset/$f" >"/sys/fs/cgroup/cpuset/$CGROUP/$f"; done
}

start_kubelet() {
  make_cgroups
  mkdir -p /etc/cni/net.d "$STATE/kubelet" "$STATE/podlogs" "$STATE/volumeplugins"
  cat >/etc/cni/net.d/10-bridge.conflist <<K
{"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
 "ipam": {"type": "host-local", "dataDir": "$STATE/ipam", "ranges": [[{"subnet": "$POD_CIDR"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}
K
  : >"$STATE/resolv.conf" # pods ask the cluster's DNS only
  cat >"$STATE/kubelet.yaml" <<K
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
cgroupDriver: cgroupfs
cgroupRoot: /$CGROUP
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
address: $NODE_IP
tlsCertFile: $PKI/kubelet-server.crt
tlsPrivateKeyFile: $PKI/kubelet-server.key
authentication: {anonymous: {enabled: false}, x509: {clientCAFile: $PKI/ca.crt}, webhook: {enabled: true}}
authorization: {mode: Webhook}
clusterDNS: [$DNS_SERVICE_IP]
clusterDomain: cluster.local
resolvConf: $STATE/resolv.conf
podLogsDir: $STATE/podlogs
volumePluginDir: $STATE/volumeplugins
failSwapOn: false
serializeImagePulls: false
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%, nodefs.inodesFree: 1%}
nodeStatusUpdateFrequency: 5s
K
  bg kubelet kubelet --config="$STATE/kubelet.yaml" --kubeconfig="$STATE/kubelet.kubeconfig" --root-dir="$STATE/kubelet" --cert-dir="$STATE/kubelet-certs" \
    --hostname-override=$NODE --node-ip=$NODE_IP "$@"
  wait_for 60 kubelet curl -sf http://127.0.0.1:10248/healthz
  wait_for 60 kubelet kubectl wait --for=condition=Ready "node/$NODE" --timeout=1s
}

# kube-proxy (nftables), so that pods reach Services by cluster address
start_proxy() {
  cat >"$STATE/proxy.yaml" <<K
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
bindAddress: $NODE_IP
healthzBindAddress: 127.0.0.1:10256
metricsBindAddress: 127.0.0.1:10249
hostnameOverride: $NODE
clusterCIDR: $POD_CIDR
clientConnection: {kubeconfig: $STATE/proxy.kubeconfig}
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s} # machine-wide sysctls: leave them
K
  local libs
  libs=$(find "$CACHE/debian/current/root" -name 'lib*.so.*' -printf '%h\n' | sort -u | paste -sd:)
  LD_LIBRARY_PATH=$libs PATH=$CACHE/debian/current/bin:$PATH bg proxy kube-proxy --config="$STATE/proxy.yaml" "$@"
  wait_for 20 proxy curl -sf http://127.0.0.1:10256/healthz
}

# CoreDNS, behind the Service that objects.sh makes. Every name under .test is the node.
start_dns() {
  cat >"$STATE/Corefile" <<K
. {
  bind $NODE_IP
  errors
  ready 127.0.0.1:8181
  kubernetes cluster.local {
    kubeconfig "$STATE/dns.kubeconfig" test
    ttl 5
  }
  template IN A test {
    answer "{{ .Name }} 60 IN A $NODE_IP"
  }
  template IN AAAA test {
    rcode NOERROR
  }
}
K
  bg dns coredns -conf "$STATE/Corefile" "$@"
  wait_for 30 dns curl -sf http://127.0.0.1:8181/ready
}

# a private Sigstore. Its Fulcio knows the cluster's own issuer.
start_sigstore() {
  rm -f "$STATE/sigstore/ready"
  bg sigstore "$SERVE_SIGSTORE" --dir "$STATE/sigstore" --address $NODE_IP --name $SIGSTORE --port 8400 --service-accounts $ISSUER "$PKI/ca.crt" "$@"
  wait_for 30 sigstore test -f "$STATE/sigstore/ready"
}

name=${1:-}
[[ " ${COMPONENTS[*]} " = *" $name "* ]] || die "unknown component '$name'; there are: ${COMPONENTS[*]}"
! alive "$name" || die "$name is running"
t=$(now)
"start_$name" "${@:2}"
say "$name: $(since "$t")"
