#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The client daemon is killed under verified I/O, with one queue and with several, raw and under a file system, and
# replaced on purpose in between: nobody who uses the devices sees an error, and every byte is right.
#
#   kill_client.sh [ROUNDS [SERVER-OPTION…]]      ROUNDS of each shape (default 3); every third is an upgrade
set -euo pipefail
source "$VM_LIB"
source "$(dirname "$0")/pair.sh"

rounds=${1:-3}
shift || true
stalls=()

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
        ((now - begin < 30000)) || vm_fail "$name: no request was answered in 30 s"
        sleep 0.01
    done
    now_ms
    stalls+=("$name:$((now - begin))")
}

kill_daemon() {
    local pid
    pid=$(daemon_pid)
    kill -KILL "$pid"
    while [[ -d /proc/$pid ]]; do sleep 0.005; done
    until_moves kill
}

upgrade() {
    local old begin now
    old=$(daemon_pid)
    now_ms; begin=$now
    rnbd-client upgrade
    while [[ -d /proc/$old ]]; do sleep 0.005; done
    until_moves upgrade
    now_ms
    stalls+=("upgrade-in-all:$((now - begin))")
}

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

shape() { # INPUT_MODE
    vm_step "input_mode=$1"
    node=$(pair_map server=ip:10.9.0.1 device_path=/dev/ram1 "input_mode=$1")
    mkfs.ext4 -q "$node"
    mkdir -p /mnt/rnbd
    mount "$node" /mnt/rnbd
    local fs_node=$node
    node=$(pair_map server=ip:10.9.0.1 device_path=/dev/ram0 "input_mode=$1")
    fio_pids=()
    verified_fio "raw-$1" "$node" --numjobs=4 --iodepth=32 --size=16M --offset_increment=16M
    verified_fio "fs-$1" /mnt/rnbd/file --iodepth=4 --size=16M --fsync=16
    vm_wait_until 60 moved
    for ((round = 1; round <= rounds; ++round)); do
        sleep "0.$((RANDOM % 10))$((RANDOM % 10))"
        if ((round % 3 == 0)); then upgrade; else kill_daemon; fi
    done
    stop_fio
    ! dmesg | grep -E 'nbd[0-9]+: (Double|Unexpected|Suspicious|Command|Wrong|Receive|Send|Dead)|I/O error' ||
        vm_fail "the kernel saw nonsense"
    umount /mnt/rnbd
    fsck.ext4 -fn "$fs_node" > "$RESULTS/fsck.log" || vm_fail "$(cat "$RESULTS/fsck.log")"
    sync
    blockdev --flushbufs "$node" /dev/ram0
    cmp "$node" /dev/ram0
    rnbd-client unmap "$node"
    rnbd-client unmap "$fs_node"
}

vm_load_modules brd,rd_nr=2,rd_size=65536 ext4
vm_load_modules nbd
vm_rxe_loopback
pair_start_server "$@"
pair_start_client --supervise
shape rq
shape mq
vm_step "stalls in ms: ${stalls[*]}"
pair_stop
pair_no_errors_logged
vm_step "done"
