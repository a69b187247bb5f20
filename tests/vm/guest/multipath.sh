#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Two hosts joined by two cables: guest a maps a disk of guest b over both, and loses one path after the other under
# verified I/O: by a cut it sees, by one it does not see, by packets that vanish in one direction, by both at once, by
# flapping, by an interface that is taken down on either host (over which soft-RoCE cannot send then: see quiet_ids.h). No request fails, and none waits for longer than a second while a path is left. Run with --guests 2
# --links 2.
#
#   multipath.sh [ROUNDS [MILLISECONDS]]     rounds of all faults (1); the longest that a request may take (1000)
#   multipath.sh kernel                      the same of the kernel's client and server, for comparison, with
#                                            --kernel-rnbd: without a limit, and as long as it takes them to notice;
#                                            without both paths their requests fail
set -euo pipefail
source "$VM_LIB"
source "$(dirname "$0")/pair.sh"
source "$(dirname "$0")/sides.sh"

side=ours rounds=${1:-1} limit=${2:-1000} cut=1.5 silence=1.5 patience=30
[[ $rounds != kernel ]] || side=kernel rounds=1 limit=200000 cut=12 silence=45 patience=150
client_side=$side server_side=$side

take_down() { # LINK SECONDS
    ip link set "eth$1" down
    sleep "$2"
    ip link set "eth$1" up
}

vm_rxe_links
if [[ $GUEST == b ]]; then
    vm_load_modules brd,rd_nr=1,rd_size=65536
    server_start yes
    vm_signal exported
    for ((round = 1; round <= rounds; round++)); do
        [[ $side == ours ]] || break
        vm_wait "take-down-$round" 3600
        take_down 1 $silence
        vm_signal "taken-down-$round"
    done
    vm_wait unmapped 3600
    server_stop
    exit 0
fi

now() { echo $((${EPOCHREALTIME/./} / 1000)); }
path_is_up() { # LINK
    client_path_is_up paths "$(vm_address b "$1")" && return
    [[ $side == ours ]] || (echo 1 > "$(kernel_path paths "$(vm_address b "$1")")/reconnect") 2> /dev/null
    false
}
paths_are_up() { path_is_up 0 && path_is_up 1; }
done_by_fio() { awk '{ print $1 + $5 }' "/sys/block/${node#/dev/}/stat"; }
moves() { (($(done_by_fio) > before)); }

phases="$RESULTS/phases"
phase() { # LIMIT NAME COMMAND…: runs COMMAND, waits until both paths are up, and keeps the times for the end
    local begin limit=$1 name=$2
    begin=$(now)
    vm_step "$name"
    "${@:3}"
    vm_wait_until "$patience" paths_are_up
    before=$(done_by_fio)
    vm_wait_until "$patience" moves || vm_fail "no I/O"
    echo "$begin $(now) $limit $name" >> "$phases"
}
cut_for() { # SECONDS GUEST LINK…
    local link
    for link in "${@:3}"; do vm_link "$2" "$link" off; done
    sleep "$1"
    for link in "${@:3}"; do vm_link "$2" "$link" on; done
}
vanish() { # SECONDS LINK: what a sends there
    tc qdisc add dev "eth$2" root netem loss 100%
    sleep "$1"
    tc qdisc del dev "eth$2" root
}
flap() { # LINK
    local i
    for i in 1 2 3 4; do
        vm_link a "$1" off
        sleep 0.$((RANDOM % 4 + 1))
        vm_link a "$1" on
        sleep 0.$((RANDOM % 5 + 1))
    done
}

take_down_there() {
    vm_signal "take-down-$round"
    vm_wait "taken-down-$round"
}

vm_load_modules nbd sch_netem
client_start
vm_wait exported 100
server_address=$(vm_address b 0)
node=$(client_map paths /dev/ram0 "path=ip:$(vm_address b 1)")
vm_wait_until 10 paths_are_up
fio --name=paths --filename="$node" --direct=1 --ioengine=libaio --iodepth=8 --numjobs=2 --size=16M \
    --offset_increment=16M --rw=randwrite --bsrange=4k-64k --verify=crc32c --verify_fatal=1 --time_based \
    --runtime=$((rounds * 60 + 600)) --verify_backlog=64 --write_lat_log="$RESULTS/latency" --log_unix_epoch=1 \
    --output="$RESULTS/fio.json" --output-format=json &
fio_pid=$!
before=$(done_by_fio)
vm_wait_until 30 moves

for ((round = 1; round <= rounds; round++)); do
    phase "$limit" "nothing" sleep 1
    phase "$limit" "path 0 is cut" cut_for $cut a 0
    phase "$limit" "path 1 is silent" cut_for $silence b 1
    phase "$limit" "what goes out on path 0 vanishes" vanish $silence 0
    phase "$limit" "path 1 flaps" flap 1
    [[ $side == ours ]] || continue
    phase "$limit" "path 0's interface is taken down" take_down 0 $cut
    phase "$limit" "path 1's interface is taken down at the server" take_down_there
    phase 9000 "both are cut" cut_for $cut a 0 1
    phase 9000 "both are silent" cut_for $silence b 0 1
done

kill -INT "$fio_pid"
wait "$fio_pid" || true
if [[ $side == ours ]]; then
    rnbd-client path list
    rnbd-client path list --json > "$RESULTS/paths.json"
fi
client_unmap "$node"
client_stop
vm_signal unmapped
python3 "$(dirname "$0")/latency.py" "$RESULTS" "$phases" "$RESULTS/fio.json"
vm_step "done"
