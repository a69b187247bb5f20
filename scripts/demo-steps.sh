#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The steps of the demonstration, on a machine with nbd, an RDMA device and the programs in RNBD_BIN. Called by demo.sh,
# here or in a guest. Ends and removes all it started and made.
set -euo pipefail
PATH="$RNBD_BIN:$PATH"
work=$(mktemp -d /tmp/rnbd-demo.XXXX)
source=$(cd "$(dirname "$0")/../src" && pwd)
bold="" dim="" plain=""
[[ -z ${RNBD_COLOR:-} ]] || bold=$'\e[1m' dim=$'\e[2m' plain=$'\e[0m'
server_control=$work/server.sock client_control=$work/client.sock
pids=()

step() { printf '\n%s\n' "$bold── $*$plain"; }
say() { printf '%s\n' "$dim\$$plain $*"; }
run() { # COMMAND…: shown, then run
    say "$*"
    "$@"
}
stop() {
    set +e
    mountpoint -q "$work/mnt" && umount "$work/mnt"
    for pid in "${pids[@]}"; do kill "$pid" 2> /dev/null; done
    for pid in "${pids[@]}"; do wait "$pid" 2> /dev/null; done
    rm -rf "$work"
}
trap stop EXIT
within() { # SECONDS COMMAND…: polls
    local end=$((SECONDS + $1))
    until "${@:2}" > /dev/null 2>&1; do
        ((SECONDS < end)) || { echo "not within $1 s: ${*:2}" >&2; cat "$work"/*.log >&2; exit 1; }
        sleep 0.1
    done
}
rdma_address() { # of the first RDMA device that has a network interface with an address
    local netdev
    for netdev in $(rdma link show | sed -n 's/.*netdev \([^ ]*\).*/\1/p'); do
        ip -o -4 address show dev "$netdev" | sed -n 's/.*inet \([0-9.]*\).*/\1/p'
    done | head -n 1
}

[[ -e /dev/nbd0 ]] || modprobe nbd || { echo "the kernel has no nbd: modprobe nbd" >&2; exit 1; }
address=$(rdma_address)
[[ -n $address ]] || {
    echo "no RDMA device with an IPv4 address; soft-RoCE makes one of any network interface:" >&2
    echo "  modprobe rdma_rxe && rdma link add rxe0 type rxe netdev eth0" >&2
    exit 1
}

step "The server: a disk of 256 MiB, exported over RDMA"
run truncate -s 256M "$work/disk"
say "rnbd-server daemon --dev-search-path $work &"
rnbd-server daemon --dev-search-path "$work" --control "$server_control" 2> "$work/server.log" &
pids+=($!)
within 30 rnbd-server list --control "$server_control"

step "The client: maps it"
say "rnbd-client daemon &"
rnbd-client daemon --control "$client_control" 2> "$work/client.log" &
pids+=($!)
within 30 rnbd-client list --control "$client_control"
say "rnbd-client map server=ip:$address device_path=disk"
node=$(rnbd-client map "server=ip:$address" device_path=disk --control "$client_control")
echo "$node"
run lsblk "$node"

step "A file system on it"
run mkfs.ext4 -q "$node"
mkdir "$work/mnt"
run mount "$node" "$work/mnt"
run cp -r "$source" "$work/mnt/"
run diff -r "$source" "$work/mnt/src"
run df -h "$work/mnt"

step "Verified I/O: every block written is read back and its checksum compared"
run fio --name=demo --directory="$work/mnt" --size=24M --rw=randwrite --bs=16k --ioengine=libaio --iodepth=16 --direct=1 \
    --verify=crc32c --verify_fatal=1 --output="$work/fio.txt"
grep -E 'read:|write:|err=' "$work/fio.txt"

step "What both sides say"
run rnbd-client list --control "$client_control"
run rnbd-server list --control "$server_control"

step "And away again"
run umount "$work/mnt"
run rnbd-client unmap "$node" --control "$client_control"
run fsck.ext4 -fn "$work/disk"
step "Done: the server's disk holds a clean file system with everything that was written."
