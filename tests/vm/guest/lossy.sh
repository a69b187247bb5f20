#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Two hosts joined by a cable that loses packets in both directions: the adapters repeat what was lost, no connection
# ends, and all data arrives. Each request has a new key, which soft-RoCE must not make twice. Heartbeats are patient:
# when both a packet and the request for it are lost, soft-RoCE says nothing for a second. Run with --guests 2.
#
#   lossy.sh [PERCENT [SECONDS [yes|no]]]     of packets (1); of verified I/O (10); with new keys (yes)
set -euo pipefail
source "$VM_LIB"
source "$(dirname "$0")/pair.sh"

percent=${1:-1} seconds=${2:-10} new_keys=${3:-yes}

lose() { tc qdisc add dev eth0 root netem loss "$percent%"; }

vm_rxe_links
vm_load_modules sch_netem
if [[ $GUEST == b ]]; then
    vm_load_modules brd,rd_nr=1,rd_size=65536
    pair_start_server --always-invalidate "$new_keys" --hb-missed-max 100 --dev-search-path /dev
    vm_signal exported
    vm_wait mapped 100
    lose
    vm_signal lossy
    vm_wait written 500
    tc qdisc del dev eth0 root
    vm_wait unmapped 100
    pair_stop
    exit 0
fi

vm_load_modules nbd
pair_start_client
vm_wait exported 100
node=$(pair_map sessname=lossy "path=ip:$(vm_address b 0)" device_path=ram0 hb_missed_max=100)
vm_signal mapped
vm_wait lossy 100
lose
vm_step "verified I/O, $percent % of packets lost"
fio --name=lossy --filename="$node" --direct=1 --ioengine=libaio --iodepth=8 --numjobs=2 --size=16M \
    --offset_increment=16M --rw=randrw --bsrange=4k-64k --verify=crc32c --verify_fatal=1 --time_based \
    --runtime="$seconds" --verify_backlog=64 --output="$RESULTS/fio.json" --output-format=json
tc qdisc del dev eth0 root
vm_signal written

vm_step "the adapters have repeated much, and nobody has connected again"
rnbd-client path list
reconnects=$(rnbd-client path list --noheaders -o reconnects)
((reconnects == 0)) || vm_fail "$reconnects reconnects: $(cat "$RESULTS/client.log")"
repeated=$(awk -F: '/duplicate_request|out_of_seq_request/ { sum += $NF } END { print sum + 0 }' \
    <(grep -H . /sys/class/infiniband/*/ports/1/hw_counters/*))
echo "repeated by the server: $repeated"
((repeated >= 10)) || vm_fail "too little was lost to tell"
rnbd-client unmap "$node"
vm_signal unmapped
pair_stop
vm_step "done"
