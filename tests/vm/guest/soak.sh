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

rounds=${1:-2}
seed=${2:-1}
RANDOM=$seed
faults=("${@:3}")
((${#faults[@]})) || faults=(kill_client kill_server pause_client pause_server upgrade_client restart_server)
stalls=$RESULTS/stalls

daemon_pid() { # of the daemon, not of its keeper
    local pid=
    read -r pid _ < "/proc/$client_pid/task/$client_pid/children" || [[ -n $pid ]] # there is no newline
    echo "$pid"
}

completed() { # sets done_now: requests that the device has answered
    local fields
    read -r -a fields < "/sys/block/${node#/dev/}/stat"
    done_now=$((fields[0] + fields[4]))
}

now_ms() { # sets now
    now=$((${EPOCHREALTIME/./} / 1000))
}

until_moves() { # NAME: waits until the device answers again, and notes how long that took
    local name=$1 begin before now done_now
    now_ms; begin=$now
    completed; before=$done_now
    while completed; ((done_now <= before + 8)); do
        now_ms
        ((now - begin < 30000)) || vm_fail "$name: no request was answered in 30 s: $(rnbd-client path list)"
        sleep 0.01
    done
    now_ms
    echo "$name $((now - begin))" >> "$stalls"
}

a_moment() { # SECONDS: sleeps for up to them, at random
    local ms=$((RANDOM % ($1 * 1000)))
    sleep "$((ms / 1000)).$(printf '%03d' $((ms % 1000)))"
}

until_dead() { # PID
    while [[ -d /proc/$1 ]]; do sleep 0.005; done
}

# --- The faults. A stall counts from where the daemon could work again. -----------------------------------------------

kill_client() {
    local pid
    pid=$(daemon_pid)
    kill -KILL "$pid"
    until_dead "$pid"
    until_moves kill_client
}

upgrade_client() {
    local old
    old=$(daemon_pid)
    rnbd-client upgrade
    until_dead "$old"
    until_moves upgrade_client
}

pause_client() {
    local pid
    pid=$(daemon_pid)
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

verified_fio() { # NAME FILE OPTION…: in the background, until stop_fio
    fio --name="$1" --filename="$2" --direct=1 --ioengine=libaio --rw=randrw --bsrange=4k-128k --verify=crc32c \
        --verify_fatal=1 --verify_backlog=128 --time_based --runtime=100000 "${@:3}" --output="$RESULTS/fio-$1.log" &
    fio_pids+=($!)
}

stop_fio() { # told to stop it exits with 128, whatever else it says
    local pid status
    for pid in "${fio_pids[@]}"; do
        status=0
        kill -INT "$pid"
        wait "$pid" || status=$?
        ((status == 128 || status == 0)) || vm_fail "fio ended with $status: $(cat "$RESULTS"/fio-*.log)"
    done
    ! grep -hE 'verify:|err= *[1-9]' "$RESULTS"/fio-*.log || vm_fail "fio saw errors"
    grep -qE 'err= *0' "$RESULTS"/fio-*.log || vm_fail "fio says nothing"
    fio_pids=()
}

moved() { completed; ((done_now > 200)); }
nothing_in_flight() {
    rnbd-client path list --json | python3 -c '
import json, sys
sys.exit(any(path["in_flight"] for path in json.load(sys.stdin)["paths"]))'
}
descriptors() { # PID
    find "/proc/$1/fd" -mindepth 1 | wc -l
}
as_before() {
    (($(descriptors "$server_pid") <= server_descriptors && $(descriptors "$(daemon_pid)") <= client_descriptors))
}

shape() { # INPUT_MODE PATH…
    vm_step "input_mode=$1, ${*:2}"
    node=$(pair_map sessname=soak "${@:2}" device_path=/dev/ram1 "input_mode=$1")
    mkfs.ext4 -q "$node"
    mkdir -p /mnt/rnbd
    mount "$node" /mnt/rnbd
    local fs_node=$node
    node=$(pair_map sessname=soak "${@:2}" device_path=/dev/ram0 "input_mode=$1")
    fio_pids=()
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
    ! dmesg | grep -E 'nbd[0-9]+: (Double|Unexpected|Suspicious|Command|Wrong|Receive|Send|Dead)|I/O error' ||
        vm_fail "the kernel saw nonsense"
    umount /mnt/rnbd
    fsck.ext4 -fn "$fs_node" > "$RESULTS/fsck.log" || vm_fail "$(cat "$RESULTS/fsck.log")"
    sync
    blockdev --flushbufs "$node" /dev/ram0
    cmp "$node" /dev/ram0
    vm_wait_until 10 nothing_in_flight
    rnbd-client unmap "$node"
    rnbd-client unmap "$fs_node"
    vm_wait_until 20 as_before || vm_fail "descriptors are left: server $(descriptors "$server_pid") of \
$server_descriptors, client $(descriptors "$(daemon_pid)") of $client_descriptors"
}

vm_load_modules brd,rd_nr=2,rd_size=65536 ext4
vm_load_modules nbd
vm_rxe_loopback
pair_start_server
pair_start_client --supervise
# What either opens once and keeps is there from now on.
rnbd-client unmap "$(pair_map sessname=soak path=ip:10.9.0.1 device_path=/dev/ram1)"
server_descriptors=$(descriptors "$server_pid")
client_descriptors=$(descriptors "$(daemon_pid)")
shape rq path=ip:10.9.0.1
shape mq path=ip:10.9.0.1 'path=ip:[fd09::1]'
pair_stop
vm_step "stalls in ms, from where the daemon could work again"
sort "$stalls" | python3 -c '
import itertools, sys
lines = (line.split() for line in sys.stdin)
for name, of_name in itertools.groupby(lines, key=lambda line: line[0]):
    taken = sorted(int(ms) for _, ms in of_name)
    at = {part: taken[min(len(taken) - 1, len(taken) * part // 100)] for part in (50, 90)}
    print(f"{name:16} {len(taken):4} times, least {taken[0]:6}, half below {at[50]:6}, 90 % below {at[90]:6}, most {taken[-1]:6}")'
pair_no_errors_logged
vm_step "done"
