#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Maps and unmaps many times: memory, descriptors and registered memory stay what they were, on both sides.
#
#   cycles.sh [COUNT [SERVER-OPTION…]]     default 100
set -euo pipefail
source "$VM_LIB"
source "$(dirname "$0")/pair.sh"

count=${1:-100}
shift || true
# A sanitizer keeps what was freed, to see it used; here that would look like a leak.
ASAN_OPTIONS+=:quarantine_size_mb=4:thread_local_quarantine_size_kb=64

descriptors() { # PID
    find "/proc/$1/fd" -mindepth 1 | wc -l
}
resident() { # PID: KiB
    awk '/^VmRSS/ { print $2 }' "/proc/$1/status"
}
registered() { # memory regions of all processes
    rdma resource show mr 2> /dev/null | wc -l
}
cycle() {
    local node
    node=$(pair_map server=ip:10.9.0.1 device_path=/dev/ram0)
    dd if="$node" of=/dev/null bs=64k count=1 iflag=direct status=none
    rnbd-client unmap "$node"
}
measure() {
    vm_wait_until 20 session_gone
    echo "descriptors $(descriptors "$client_pid") $(descriptors "$server_pid")" \
        "regions $(registered) resident $(resident "$client_pid") $(resident "$server_pid")"
}
session_gone() { # the server hears of an unmap a moment after the client has finished it
    [[ $(grep -c 'is up on' "$RESULTS/server.log") == $(grep -c 'is gone' "$RESULTS/server.log") ]]
}

vm_load_modules brd,rd_nr=1,rd_size=65536
pair_start "$@"
node=$(pair_map server=ip:10.9.0.1 device_path=/dev/ram0)
(($(registered) > 0)) || vm_fail "registered memory cannot be counted here"
rnbd-client unmap "$node"
for ((i = 0; i < 5; i++)); do cycle; done # what is allocated once
before=$(measure)
vm_step "$count cycles"
for ((i = 0; i < count; i++)); do cycle; done
after=$(measure)
echo "before: $before"
echo "after:  $after"
read -r _ client_fds server_fds _ regions _ client_rss server_rss <<< "$before"
read -r _ client_fds2 server_fds2 _ regions2 _ client_rss2 server_rss2 <<< "$after"
((client_fds == client_fds2 && server_fds == server_fds2)) || vm_fail "descriptors are left behind"
((regions == regions2)) || vm_fail "registered memory is left behind"
# A leak of a session would be 64 MiB a cycle.
((client_rss2 < client_rss + 16384 && server_rss2 < server_rss + 16384)) || vm_fail "memory grows"
pair_stop
pair_no_errors_logged
vm_step "done"
