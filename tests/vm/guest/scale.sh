#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# scripts/bench.sh --scale in a guest: many disks, and a server with four addresses; or, in two guests with two cables,
# a server on b and a client on a, of whose paths the second is slow. Runs tests/bench/scale with the arguments.
set -euo pipefail
source "$VM_LIB"
scale=$(dirname "$0")/../../bench/scale

has_gids() { # NUMBER: of IPv4 addresses
    (($(grep -slE '^0000:0000:0000:0000:0000:ffff:0a09:' /sys/class/infiniband/rxe0/ports/1/gids/[0-9] | wc -l) == $1))
}

vm_load_modules brd,rd_nr=101,rd_size=8192
ulimit -l unlimited
if ((GUESTS == 1)); then
    vm_rxe_loopback
    for host in 11 12 13; do ip address add "10.9.0.$host/24" dev dm0; done
    vm_wait_until 10 has_gids 4
    addresses=10.9.0.1,10.9.0.11,10.9.0.12,10.9.0.13
else
    vm_rxe_links
    addresses=$(vm_address b 0),$(vm_address b 1)
    if [[ $GUEST == b ]]; then
        "$RNBD_BIN/rnbd-server" daemon 2> "$RESULTS/server.log" &
        vm_wait_until 60 "$RNBD_BIN/rnbd-server" list > /dev/null 2>&1
        vm_signal serving
        wait
    fi
    vm_load_modules sch_netem
    vm_wait serving 100
fi
trap 'cp /run/scale/*.log "$RESULTS"' EXIT
python3 "$scale" --addresses "$addresses" --scratch /run/scale --output "$RESULTS/scale.json" "$@"
