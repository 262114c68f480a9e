#!/bin/bash
# init.sh: first process of the cluster's namespaces. What it mounts and sets exists only inside of them.
# shellcheck source=../env.sh
. "$(dirname "$0")/../env.sh"
mount --make-rshared / # kubelet's volume mounts must reach the containers
ip link set lo up
ip addr add $NODE_IP/32 dev lo
ip route add $SERVICE_CIDR dev lo src $NODE_IP # a route, so that kube-proxy gets to see what the node itself sends to Services
echo 1 >/proc/sys/net/ipv4/ip_forward

# Programs write to fixed paths (/var/lib/kubelet, /run/containerd, /etc ...): give them layers in memory.
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/state; mount --bind "$STATE" /run/state
for d in var etc opt; do
  mkdir -p /run/layer/$d /run/work/$d
  mount -t overlay overlay -o lowerdir=/$d,upperdir=/run/layer/$d,workdir=/run/work/$d /$d
done
mount --bind /run/state "$STATE" # should it lie under /var: not through the overlay
mkdir -p "$STATE/containerd"
case $(stat -f -c %T "$STATE") in
  overlay*) mount -t tmpfs tmpfs "$STATE/containerd" ;; # its own overlays cannot lie on one
esac

echo "$NODE_IP $NODE ${REGISTRY%:*} ${PLAIN%:*} $SIGSTORE" >>/etc/hosts # before there is DNS
rm -f /etc/resolv.conf
printf 'nameserver %s\nsearch svc.cluster.local cluster.local\n' $NODE_IP >/etc/resolv.conf

# kubelet wants to set these for the whole machine: show it ordinary files that already hold the values
mkdir /run/sysctl
for s in vm/overcommit_memory=1 kernel/panic=10 kernel/panic_on_oops=1; do
  f=/run/sysctl/$(basename "${s%=*}"); echo "${s#*=}" >"$f"; mount --bind "$f" "/proc/sys/${s%=*}"
done
touch "$STATE/ready"
while :; do sleep 3600 & wait $!; done # bash reaps orphans
