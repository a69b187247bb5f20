#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Two hosts joined by a cable: guest b exports a disk, guest a maps it, over IPv4 and over IPv6, and finds there what b
# reads from its own disk. Run with --guests 2.
set -euo pipefail
source "$VM_LIB"
source "$(dirname "$0")/pair.sh"

vm_rxe_links
if [[ $GUEST == b ]]; then
    vm_load_modules brd,rd_nr=1,rd_size=65536
    pair_start_server --dev-search-path /dev
    vm_signal exported
    vm_wait written 200
    dd if=/dev/ram0 bs=1M count=16 iflag=direct status=none | sha256sum > /shared/on-disk
    vm_signal compared
    vm_wait unmapped 100
    pair_stop
    exit 0
fi

vm_load_modules nbd
pair_start_client
vm_wait exported 100
vm_step "over IPv4"
node=$(pair_map "server=ip:$(vm_address b 0)" device_path=ram0)
dd if=/dev/urandom of=/tmp/data bs=1M count=16 status=none
dd if=/tmp/data of="$node" bs=1M oflag=direct conv=fsync status=none
dd if="$node" bs=1M count=16 iflag=direct status=none | cmp - /tmp/data
vm_signal written
vm_wait compared 100
[[ $(sha256sum < /tmp/data) == "$(< /shared/on-disk)" ]] || vm_fail "b's disk holds something else"
rnbd-client list
rnbd-client unmap "$node"

vm_step "over IPv6, from an address of our choice"
node=$(pair_map sessname=six "path=ip:$(vm_address a 0 6)@ip:[$(vm_address b 0 6)]" device_path=ram0 access_mode=ro)
dd if="$node" bs=1M count=16 iflag=direct status=none | cmp - /tmp/data
rnbd-client unmap "$node"
vm_signal unmapped
pair_stop
vm_step "done"
