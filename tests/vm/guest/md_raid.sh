#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Replication by standard means: md RAID1 over two devices from two servers, under verified I/O, while each server is
# killed and comes back. The array goes on with the other one and takes the returned half in again.
#
#   md_raid.sh [ROUNDS]      how often each server dies (default 1)
set -euo pipefail
source "$VM_LIB"
source "$(dirname "$0")/pair.sh"

rounds=${1:-1}
declare -A port=([one]=1234 [two]=1235) disk=([one]=ram0 [two]=ram1) node pid

start_server() { # NAME
    "$RNBD_BIN/rnbd-server" daemon --control "/run/$1.sock" --port-nr "${port[$1]}" --dev-search-path /dev 2>> "$RESULTS/server-$1.log" &
    pid[$1]=$!
    vm_wait_until 60 rnbd-server list --control "/run/$1.sock" > /dev/null 2>&1
}
device_is() { # NAME STATE
    [[ $(rnbd-client list --noheaders | awk -v node="${node[$1]}" '$1 == node { print $4 }') == "$2" ]]
}
array_is() { # UU, U_ or _U
    grep -q "\[$1\]" /proc/mdstat
}
written() { awk '{ print $5 }' /sys/block/md0/stat; }
goes_on() {
    local before
    before=$(written)
    moved() { (($(written) > before + 20)); }
    vm_wait_until 60 moved
}
takes_back() { # NAME: as udev or an administrator would
    mdadm --quiet /dev/md0 --remove "${node[$1]}" 2> /dev/null || true
    mdadm --quiet /dev/md0 --re-add "${node[$1]}" 2>> "$RESULTS/mdadm.log"
}

vm_load_modules nbd raid1 brd,rd_nr=2,rd_size=40960
vm_rxe_loopback
pair_start_client
for name in one two; do
    start_server "$name"
    node[$name]=$(pair_map "sessname=$name" path=ip:10.9.0.1 "dest_port=${port[$name]}" "device_path=${disk[$name]}" \
        on_no_path=fail-after:1s)
done

echo 100000 > /proc/sys/dev/raid/speed_limit_min # KiB/s: to be done soon, fio or not
vm_step "an array of ${node[one]} and ${node[two]}"
mdadm --create /dev/md0 --run --quiet --level=1 --raid-devices=2 --metadata=1.2 --bitmap=internal \
    "${node[one]}" "${node[two]}" 2> "$RESULTS/mdadm.log" || vm_fail "mdadm: $(< "$RESULTS/mdadm.log")"
vm_wait_until 120 array_is UU
fio --name=raid --filename=/dev/md0 --direct=1 --ioengine=libaio --iodepth=8 --size=16M --rw=randwrite \
    --bsrange=4k-64k --verify=crc32c --verify_fatal=1 --verify_backlog=64 --time_based --runtime=3000 \
    --output="$RESULTS/fio.json" --output-format=json &
fio_pid=$!
goes_on

for ((round = 0; round < rounds; round++)); do
    for name in one two; do
        left=U_
        [[ $name == two ]] || left=_U
        vm_step "server $name is killed"
        kill -KILL "${pid[$name]}"
        wait "${pid[$name]}" 2> /dev/null || true
        vm_wait_until 60 array_is "$left"
        goes_on
        vm_step "server $name comes back"
        start_server "$name"
        vm_wait_until 30 device_is "$name" open
        vm_wait_until 30 takes_back "$name"
        vm_wait_until 120 array_is UU
        goes_on
    done
done

vm_step "both halves are the same"
kill -INT "$fio_pid"
wait "$fio_pid" || true
grep -q '"error" : 0' "$RESULTS/fio.json" || vm_fail "fio: $(grep error "$RESULTS/fio.json")"
echo check > /sys/block/md0/md/sync_action
is_idle() { [[ $(< /sys/block/md0/md/sync_action) == idle ]]; }
vm_wait_until 120 is_idle
(($(< /sys/block/md0/md/mismatch_cnt) == 0)) || vm_fail "$(< /sys/block/md0/md/mismatch_cnt) sectors differ"
mdadm --quiet --stop /dev/md0
for name in one two; do rnbd-client unmap "${node[$name]}"; done
for name in one two; do pair_end "server-$name" "${pid[$name]}"; done
pair_stop
vm_step "done"
