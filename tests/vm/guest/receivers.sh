#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Devices that are mapped while the kernel can hardly start a thread: each of their queues answers all the same. The
# driver's work queue hands sockets to its rescuer then, which reads one of them and no more.
set -euo pipefail
source "$VM_LIB"
source "$(dirname "$0")/pair.sh"

vm_load_modules brd,rd_nr=8,rd_size=16384
pair_start --dev-search-path /dev
rnbd-client map sessname=blya path=ip:10.9.0.1 device_path=ram0 > /tmp/node.0

vm_step "mapping, while others have the processors"
hogs=() mappers=()
for i in 1 2 3; do
    chrt -f 1 bash -c 'while ((SECONDS < 60)); do :; done' &
    hogs+=($!)
done
for i in 1 2 3 4 5 6 7; do
    rnbd-client map sessname=blya device_path=ram$i > /tmp/node.$i &
    mappers+=($!)
done
told() { [[ $(dmesg | grep -c 'nbd.*capacity change') -ge 5 ]]; }
vm_wait_until 60 told
kill -KILL "${hogs[@]}"
for mapper in "${mappers[@]}"; do wait "$mapper"; done

vm_step "each queue of each device answers"
mkdir /tmp/read
for node in $(cat /tmp/node.*); do
    for cpu in 0 1; do
        (taskset -c $cpu dd if="$node" of=/dev/null bs=4k count=1 iflag=direct status=none && : > "/tmp/read/${node#/dev/}.$cpu") &
    done
done
all_read() { [[ $(find /tmp/read -type f | wc -l) == 16 ]]; }
vm_wait_until 30 all_read || vm_fail "some do not: $(ls /tmp/read; grep . /sys/block/nbd*/inflight)"
for node in $(cat /tmp/node.*); do rnbd-client unmap "$node"; done
grep 'mapped anew' "$RESULTS/client.log" || true
pair_stop
vm_step "done"
