#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# What an I/O costs in calls: no worker of either daemon allocates or takes a mutex once a device is mapped, and what
# happens together is handled together. Prints recvmmsg, sendmmsg, read, write (a doorbell of software RDMA) and
# io_uring_enter per I/O. Run by tests/vm/run; the argument is the library that counts.
set -euo pipefail
source "$VM_LIB"
source "$(dirname "$0")/pair.sh"
count_calls=$(dirname "$0")/count_calls

load() { # NAME SECONDS FIO-OPTION…: fio; the number of I/Os is in ios
    fio --name="$1" --filename="$node" --direct=1 --ioengine=libaio --group_reporting --time_based --runtime="$2" \
        --output-format=json --output="$RESULTS/$1.json" "${@:3}"
    ios=$(python3 -c 'import json, sys
job = json.load(open(sys.argv[1]))["jobs"][0]
assert job["error"] == 0
print(job["read"]["total_ios"] + job["write"]["total_ios"])' "$RESULTS/$1.json")
}

snapshot() { # NAME: of both daemons' counters
    local side pid
    for side in client server; do
        pid=${side}_pid
        "$count_calls" "/dev/shm/calls.${!pid}" "${!pid}" > "$RESULTS/$side.$1"
    done
}

counted() { # NAME SECONDS FIO-OPTION…: warms up, then counts
    load "$1" 1 "${@:3}"
    snapshot before
    load "$@"
    snapshot after
}

show() { # TITLE SIDE [CALL=MOST]…: what was counted; false if there is more of a call
    local code=0
    vm_step "$1: $2, $ios I/Os"
    "$count_calls" --table "$RESULTS/$2.before" "$RESULTS/$2.after" "$ios" "${@:3}" || code=$?
    ((code == 0 || code == 3)) || vm_fail "a worker allocates or takes a mutex"
    ((code == 0))
}

small() { # TITLE: I/Os of 4 KiB, 32 at a time and twice
    local try
    for try in 1 2 3; do
        counted small 3 --rw=randrw --bs=4k --iodepth=32 --numjobs=2
        show "$1" client sendmmsg=0.8 write=0.8 enter=0.8 calls=2 &&
            show "$1" server write=0.8 enter=0.8 calls=1 && return
        vm_step "$1: more calls than there should be, attempt $try"
    done
    vm_fail "more than there should be, three times"
}

start() { # SERVER-OPTION…: the pair, counted
    LD_PRELOAD=$library pair_start_server "$@"
    LD_PRELOAD=$library pair_start_client
    node=$(pair_map server=ip:10.9.0.1 device_path=/dev/ram0)
    queue=/sys/block/${node#/dev/}/queue
    [[ $(< "$queue/scheduler") == *'[none]'* ]] || vm_fail "the scheduler is not none"
    [[ $(< "$queue/max_sectors_kb") == 124 ]] || vm_fail "requests are up to $(< "$queue/max_sectors_kb") KiB"
}

stop() {
    rnbd-client unmap "$node"
    pair_stop
    pair_no_errors_logged
}

(($# == 1)) || vm_fail "which library?"
library=$1
vm_load_modules brd,rd_nr=1,rd_size=131072 nbd
vm_rxe_loopback
export COUNT_CALLS_FILE=/dev/shm/calls

# One at a time, each of these would be 1 or more. How many I/Os there are to a batch is up to who gets a processor when:
# between 2 and 25 in runs of the same programs, so the best of three counts.
start --always-invalidate no
small "4 KiB"
stop

# Here the server rings twice more for each batch: for the keys it revokes, and for those it makes.
start --always-invalidate yes
small "4 KiB, new keys"
# More than there are permits for, in pieces: queues wait, and wake each other.
counted crowded 3 --rw=randrw --bs=1m --iodepth=64 --numjobs=4
show "1 MiB, crowded" client
show "1 MiB, crowded" server
stop
vm_step "done"
