#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Both daemons are killed, stopped for a while, and restarted on purpose, in random order at random times, under
# verified I/O, raw and under a file system, with one queue and with several, over one path and over two: nobody who
# uses the devices sees an error, every byte is right, and nothing is left behind.
#
#   soak.sh [ROUNDS [SEED [FAULT…]]]      every FAULT (default: all) ROUNDS times (2) with each of two shapes
set -euo pipefail
source "$VM_LIB"
source "$(dirname "$0")/pair.sh"
source "$(dirname "$0")/load.sh"

rounds=${1:-2}
seed=${2:-1}
RANDOM=$seed
faults=("${@:3}")
((${#faults[@]})) || faults=(kill_client kill_server pause_client pause_server upgrade_client restart_server)

until_dead() { # PID
    while [[ -d /proc/$1 ]]; do sleep 0.005; done
}

# --- The faults. A stall counts from where the daemon could work again. -----------------------------------------------

kill_client() {
    local pid
    pid=$(pair_daemon_pid)
    kill -KILL "$pid"
    until_dead "$pid"
    until_moves kill_client
}

upgrade_client() {
    local old
    old=$(pair_daemon_pid)
    rnbd-client upgrade
    until_dead "$old"
    until_moves upgrade_client
}

pause_client() {
    local pid
    pid=$(pair_daemon_pid)
    kill -STOP "$pid"
    a_moment 3
    kill -CONT "$pid"
    until_moves pause_client
}

kill_server() {
    kill -KILL "$server_pid"
    wait "$server_pid" || true
    a_moment 2
    pair_start_server
    until_moves kill_server
}

restart_server() {
    pair_end server "$server_pid"
    pair_start_server
    until_moves restart_server
}

pause_server() {
    kill -STOP "$server_pid"
    a_moment 3
    kill -CONT "$server_pid"
    until_moves pause_server
}

# --- Who uses the devices ---------------------------------------------------------------------------------------------

nothing_in_flight() {
    rnbd-client path list --json | python3 -c '
import json, sys
sys.exit(any(path["in_flight"] for path in json.load(sys.stdin)["paths"]))'
}
descriptors() { # PID
    find "/proc/$1/fd" -mindepth 1 | wc -l
}
as_before() {
    (($(descriptors "$server_pid") <= server_descriptors && $(descriptors "$(pair_daemon_pid)") <= client_descriptors))
}

shape() { # INPUT_MODE PATH…
    vm_step "input_mode=$1, ${*:2}"
    node=$(pair_map sessname=soak "${@:2}" device_path=/dev/ram1 "input_mode=$1")
    mkfs.ext4 -q "$node"
    mkdir -p /mnt/rnbd
    mount "$node" /mnt/rnbd
    local fs_node=$node
    node=$(pair_map sessname=soak "${@:2}" device_path=/dev/ram0 "input_mode=$1")
    verified_fio "raw-$1" "$node" --numjobs=4 --iodepth=32 --size=16M --offset_increment=16M
    verified_fio "fs-$1" /mnt/rnbd/file --iodepth=4 --size=16M --fsync=16
    vm_wait_until 60 moved

    local order=() each
    for ((round = 1; round <= rounds; ++round)); do order+=("${faults[@]}"); done
    mapfile -t order < <(printf '%s\n' "${order[@]}" | shuf --random-source=<(yes "$seed"))
    for each in "${order[@]}"; do
        a_moment 1
        "$each"
    done

    stop_fio
    kernel_saw_no_error
    umount /mnt/rnbd
    fsck.ext4 -fn "$fs_node" > "$RESULTS/fsck.log" || vm_fail "$(cat "$RESULTS/fsck.log")"
    sync
    blockdev --flushbufs "$node" /dev/ram0
    cmp "$node" /dev/ram0
    vm_wait_until 10 nothing_in_flight
    rnbd-client unmap "$node"
    rnbd-client unmap "$fs_node"
    vm_wait_until 20 as_before || vm_fail "descriptors are left: server $(descriptors "$server_pid") of \
$server_descriptors, client $(descriptors "$(pair_daemon_pid)") of $client_descriptors"
}

vm_load_modules brd,rd_nr=2,rd_size=65536 ext4
vm_load_modules nbd
vm_rxe_loopback
pair_start_server
pair_start_client --supervise
# What either opens once and keeps is there from now on.
rnbd-client unmap "$(pair_map sessname=soak path=ip:10.9.0.1 device_path=/dev/ram1)"
server_descriptors=$(descriptors "$server_pid")
client_descriptors=$(descriptors "$(pair_daemon_pid)")
shape rq path=ip:10.9.0.1
shape mq path=ip:10.9.0.1 'path=ip:[fd09::1]'
pair_stop
vm_step "stalls in ms, from where the daemon could work again"
say_stalls
pair_no_errors_logged
vm_step "done"
