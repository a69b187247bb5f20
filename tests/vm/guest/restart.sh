#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The server goes away under verified I/O and comes back, stopped and killed: requests wait, none fails. And while it is
# away, unmapping: refused without --force, done with it.
set -euo pipefail
source "$VM_LIB"
source "$(dirname "$0")/pair.sh"

state() { rnbd-client list --noheaders | awk '{ print $4 }'; }
state_is() { [[ $(state) == "$1" ]]; }
reads() { awk '{ print $5 }' "/sys/block/${node#/dev/}/stat"; }

vm_load_modules brd,rd_nr=1,rd_size=65536
pair_start "$@"
node=$(pair_map server=ip:10.9.0.1 device_path=/dev/ram0)
fio --name=restart --filename="$node" --direct=1 --ioengine=libaio --iodepth=16 --numjobs=2 --size=16M \
    --offset_increment=16M --rw=randwrite --bsrange=4k-128k --verify=crc32c --verify_fatal=1 --time_based --runtime=1000 \
    --verify_backlog=64 --output="$RESULTS/fio.log" &
fio_pid=$!

for signal in TERM KILL; do
    before=$(reads)
    moved() { (($(reads) > before + 50)); }
    vm_wait_until 30 moved
    vm_step "SIG$signal to the server"
    kill "-$signal" "$server_pid"
    wait "$server_pid" || true
    vm_wait_until 20 state_is queueing
    pair_expect 7 'force gives up' rnbd-client unmap "$node"
    pair_start_server "$@"
    vm_wait_until 30 state_is open
    before=$(reads)
    vm_wait_until 30 moved
done
status=0
kill -INT "$fio_pid"
wait "$fio_pid" || status=$?
((status == 128 || status == 0)) || vm_fail "fio ended with $status: $(tail -n 5 "$RESULTS/fio.log")"
[[ $(grep -c 'err= *0' "$RESULTS/fio.log") == 2 ]] || vm_fail "fio saw errors: $(cat "$RESULTS/fio.log")"
sync
cmp "$node" /dev/ram0

vm_step "unmap --force while the server is away"
dd if=/dev/zero of="$node" bs=64k count=64 oflag=direct status=none 2> /dev/null &
dd_pid=$!
kill -KILL "$server_pid"
wait "$server_pid" || true
vm_wait_until 20 state_is queueing
begin=$SECONDS
rnbd-client unmap "$node" --force
((SECONDS - begin < 15)) || vm_fail "force took $((SECONDS - begin)) s"
wait "$dd_pid" || true
[[ $(rnbd-client list --noheaders) == '' ]] || vm_fail "still listed"
server_pid=''
pair_stop
vm_step "done"
