#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The plug of a client is pulled while it writes. What it had fsynced is on the server's disk, and the file system there
# is clean once its journal has been replayed. Run with --guests 2; guest b is the client. The argument: after how many
# files.
set -euo pipefail
source "$VM_LIB"
source "$(dirname "$0")/pair.sh"
files=${1:-15}

vm_rxe_links
if [[ $GUEST == b ]]; then
    vm_load_modules nbd
    pair_start_client
    vm_wait exported 100
    node=$(pair_map "server=ip:$(vm_address a 0)" device_path=ram0)
    mkfs.ext4 -q "$node"
    mkdir /tmp/m
    mount "$node" /tmp/m
    # Something that is never synced, so that the cache is full of it when the light goes out.
    fio --name=noise --directory=/tmp/m --size=16M --rw=randwrite --bs=4k --ioengine=psync --time_based --runtime=600 \
        --output=/dev/null &
    for ((i = 1; ; i++)); do
        head -c $((RANDOM * 8)) /dev/urandom > /tmp/data
        dd if=/tmp/data of="/tmp/m/new" conv=fsync status=none
        mv /tmp/m/new "/tmp/m/file.$i"
        sync /tmp/m
        # Known outside from here on: it must not be lost any more.
        echo "$(sha256sum < /tmp/data | cut -d' ' -f1)  file.$i" >> /shared/synced
    done
fi

synced() { # NUMBER: has the client got so far?
    [[ -e /shared/synced && $(wc -l < /shared/synced) -ge $1 ]]
}

vm_load_modules brd,rd_nr=1,rd_size=98304
pair_start_server --dev-search-path /dev
vm_signal exported
vm_wait_until 200 synced "$files"
vm_step "the client's plug is pulled, $(wc -l < /shared/synced) files are synced"
vm_cut_power b
promised=$(wc -l < /shared/synced)
pair_stop
vm_step "what the server's disk holds"
mkdir /tmp/m
mount /dev/ram0 /tmp/m
(cd /tmp/m && sha256sum --quiet -c /shared/synced) || vm_fail "what was fsynced is not there"
umount /tmp/m
fsck.ext4 -fn /dev/ram0
vm_step "done: all $promised files that were fsynced are there"
