#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The thin path: one write and one read from /dev/nbdX over real verbs, and the byte found on the server's disk.
set -euo pipefail
source "$VM_LIB"
source "$(dirname "$0")/pair.sh"

vm_load_modules brd,rd_nr=1,rd_size=65536
pair_start "$@"

vm_step "map"
node=$(pair_map server=ip:10.9.0.1 device_path=/dev/ram0)
echo "$node"
rnbd-client list
rnbd-server list

vm_step "write, read"
dd if=/dev/urandom of=/tmp/data bs=64k count=16 status=none
dd if=/tmp/data of="$node" bs=64k oflag=direct conv=fsync status=none
dd if="$node" bs=64k count=16 iflag=direct status=none | cmp - /tmp/data
dd if=/dev/ram0 bs=64k count=16 iflag=direct status=none | cmp - /tmp/data

vm_step "unmap"
rnbd-client unmap "$node"
rnbd-client list
rnbd-server list
[[ ! -e /sys/block/${node#/dev/}/pid ]] || vm_fail "$node is not free"
pair_stop
pair_no_errors_logged
vm_step "done"
