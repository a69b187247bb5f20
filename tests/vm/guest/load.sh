# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Verified I/O in the background, and how long it stands still, for guest scripts that break something meanwhile; to be
# sourced behind pair.sh. `node` is the device that is looked at.

stalls=$RESULTS/stalls # "NAME MILLISECONDS", a line each
fio_pids=()

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

moved() { # has `node` answered some hundred requests?
    completed
    ((done_now > 200))
}

a_moment() { # SECONDS: sleeps for up to them, at random
    local ms=$((RANDOM % ($1 * 1000)))
    sleep "$((ms / 1000)).$(printf '%03d' $((ms % 1000)))"
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

kernel_saw_no_error() {
    ! dmesg | grep -E 'nbd[0-9]+: (Double|Unexpected|Suspicious|Command|Wrong|Receive|Send|Dead)|I/O error' ||
        vm_fail "the kernel saw nonsense"
}

say_stalls() { # how often, and how long
    sort "$stalls" | python3 -c '
import itertools, sys
lines = (line.split() for line in sys.stdin)
for name, of_name in itertools.groupby(lines, key=lambda line: line[0]):
    taken = sorted(int(ms) for _, ms in of_name)
    at = {part: taken[min(len(taken) - 1, len(taken) * part // 100)] for part in (50, 90)}
    print(f"{name:16} {len(taken):4} times, least {taken[0]:6}, half below {at[50]:6}, 90 % below {at[90]:6}, most {taken[-1]:6}")'
}
