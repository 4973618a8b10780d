# shellcheck shell=bash
# Sourced by multi_host.sh: N "hosts" on this machine. Each has a network namespace of its own with one interface, its
# own address, hostname and /etc/hosts; all hang on one bridge, which lies in a namespace too. Nothing of the machine's
# own network is touched. Needs root, iproute2 and util-linux.

REHEARSAL=$(mktemp -d)
export REHEARSAL
LAB=lf$$   # namespaces are named after this process: two rehearsals do not meet

# hosts_up N: host1 .. hostN, with the addresses 10.77.0.1 .. 10.77.0.N.
hosts_up() {
  local n=$1 i
  echo "127.0.0.1 localhost" > "$REHEARSAL/hosts"
  ip netns add "$LAB-0"
  ip -n "$LAB-0" link add br0 type bridge
  ip -n "$LAB-0" link set br0 up
  for i in $(seq "$n"); do
    ip netns add "$LAB-$i"
    ip -n "$LAB-$i" link add eth0 type veth peer name "port$i" netns "$LAB-0"
    ip -n "$LAB-0" link set "port$i" master br0 up
    ip -n "$LAB-$i" addr add "10.77.0.$i/24" dev eth0
    ip -n "$LAB-$i" link set eth0 up
    ip -n "$LAB-$i" link set lo up
    echo "10.77.0.$i host$i" >> "$REHEARSAL/hosts"
  done
  # What the stubs of ssh, pdsh and srun use, too.
  cat > "$REHEARSAL/enter" <<ENTER
#!/usr/bin/env bash
# enter host1 COMMAND...
exec ip netns exec "$LAB-\${1#host}" unshare --mount --uts -- bash -c \\
  'mount --bind "$REHEARSAL/hosts" /etc/hosts && hostname "\$0" && exec "\$@"' "\$@"
ENTER
  chmod +x "$REHEARSAL/enter"
}

# hosts_down: ends what runs in the namespaces, and removes them.
hosts_down() {
  local name pids
  for name in $(ip netns list | awk '{print $1}' | grep "^$LAB-" || true); do
    pids=$(ip netns pids "$name")
    # shellcheck disable=SC2086
    [ -z "$pids" ] || kill -KILL $pids 2> /dev/null || true
    ip netns del "$name"
  done
  rm -rf "$REHEARSAL"
}

on() { "$REHEARSAL/enter" "$@"; }

# bytes_sent HOST: through its one interface to the others.
bytes_sent() { on "$1" cat /sys/class/net/eth0/statistics/tx_bytes; }
