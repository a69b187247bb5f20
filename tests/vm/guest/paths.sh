#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Paths as administrators handle them, under verified I/O in one guest (IPv4 and IPv6 of one interface are two paths):
# adding, draining, disconnecting, removing, policies; the last one only by force, and what a device does without any.
set -euo pipefail
source "$VM_LIB"
source "$(dirname "$0")/pair.sh"

v4=ip:10.9.0.1
v6=ip:[fd09::1]

path() { rnbd-client path "$@"; }
path_field() { # PATH FIELD: of `path list --json`
    path list --json | python3 -c '
import json, sys
print(*(one[sys.argv[2]] for one in json.load(sys.stdin)["paths"] if one["path"] == sys.argv[1]))' "$1" "$2"
}
path_is() { [[ $(path_field "$1" state) == "$2" ]]; }
device_is() { [[ $(rnbd-client list --noheaders | awk '{ print $4 }') == "$1" ]]; }
done_by_fio() { awk '{ print $1 + $5 }' "/sys/block/${node#/dev/}/stat"; }
moves() { (($(done_by_fio) > before)); }
expect_io() {
    before=$(done_by_fio)
    vm_wait_until 30 moves
}

vm_load_modules brd,rd_nr=1,rd_size=65536
pair_start "$@"
node=$(pair_map sessname=paths "path=$v4" device_path=/dev/ram0 on_no_path=fail-after:2s mpath_policy=rr)
fio --name=paths --filename="$node" --direct=1 --ioengine=libaio --iodepth=8 --size=16M --rw=randwrite \
    --bsrange=4k-64k --verify=crc32c --verify_fatal=1 --time_based --runtime=600 --verify_backlog=64 \
    --output="$RESULTS/fio.json" --output-format=json &
fio_pid=$!
expect_io

vm_step "add, policy, drain, reconnect"
pair_expect 5 'last path that is connected' rnbd-client path remove paths "$v4"
pair_expect 4 'no such path' rnbd-client path drain paths "$v6"
pair_expect 4 'no session' rnbd-client path drain nobody "$v4"
pair_expect 7 'nobody listens' rnbd-client path add paths "$v6" --dest-port 9
[[ $(path list --noheaders | wc -l) == 1 ]] || vm_fail "a path that could not be added stays: $(path list)"
path add paths "$v6"
pair_expect 3 'has this path' rnbd-client path add paths "$v6"
for policy in min-latency mi round-robin; do
    path policy paths "$policy"
    expect_io
done
[[ $(path_field "$v4" policy) == round-robin ]]
(($(path_field "$v6" latency_us) > 0)) || vm_fail "no latency: $(path list)"
path drain paths "$v4"
path_is "$v4" disconnected
(($(path_field "$v4" failovers) == 0)) || vm_fail "draining had to send something again"
expect_io
path reconnect paths "$v4"
path_is "$v4" connected
path disconnect paths "$v6"
expect_io
path remove paths "$v6"
[[ $(path list --noheaders | wc -l) == 1 ]]
expect_io
kill -INT "$fio_pid"
wait "$fio_pid" || true
grep -q '"error" : 0' "$RESULTS/fio.json" || vm_fail "fio: $(grep error "$RESULTS/fio.json")"

vm_step "without a path: I/O waits, then fails, then goes on"
path disconnect paths "$v4" --force
vm_wait_until 10 device_is queueing
begin=$SECONDS
! dd if="$node" of=/dev/null bs=4k count=1 iflag=direct 2> "$RESULTS/dd.log" || vm_fail "a read without a path succeeded"
device_is failing || vm_fail "not failing: $(rnbd-client list)"
((SECONDS - begin < 20)) || vm_fail "that took $((SECONDS - begin)) s"
path reconnect paths "$v4"
vm_wait_until 10 device_is open
dd if="$node" of=/dev/null bs=4k count=1 iflag=direct status=none

vm_step "another disk under the same name is refused"
truncate -s 64M /tmp/one /tmp/two
ln -s /tmp/one /tmp/disk
marked=$(pair_map sessname=paths device_path=/tmp/disk)
dd if=/dev/zero of="$marked" bs=4k count=1 oflag=direct status=none
ln -sf /tmp/two /tmp/disk
kill -KILL "$server_pid"
wait "$server_pid" || true
pair_start_server "$@"
refused() { rnbd-client list --json | grep 'another disk came back' > /dev/null; }
vm_wait_until 30 refused
! dd if=/dev/zero of="$marked" bs=4k count=1 oflag=direct 2> "$RESULTS/dd.log" || vm_fail "another disk was written to"
dd if="$node" of=/dev/null bs=4k count=1 iflag=direct status=none
ln -sf /tmp/one /tmp/disk
writes() { dd if=/dev/zero of="$marked" bs=4k count=1 oflag=direct 2> "$RESULTS/dd.log"; }
vm_wait_until 30 writes
rnbd-client unmap "$marked"
rnbd-client unmap "$node"
pair_stop
vm_step "done"
