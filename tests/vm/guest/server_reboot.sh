#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The server's host is reset under verified I/O, raw and under a file system, and boots again by itself: nobody who uses
# the devices sees an error, every byte is right, and it goes on soon after the server listens. Run with --guests 2
# --disk 64M --disk 64M --allow-kernel __rxe_cleanup; guest b is the server. (A guest that boots takes no packets, so those
# for it stay in the other one's network card, and after 50 s rxe complains of a QP that cannot go before they do.)
#
#   server_reboot.sh [TIMES [SEED]]
set -euo pipefail
source "$VM_LIB"
source "$(dirname "$0")/pair.sh"
source "$(dirname "$0")/load.sh"
times=${1:-2}
RANDOM=${2:-1}

listens() {
    grep -q ' serving ' "$RESULTS/server.log"
}

vm_rxe_links
if [[ $GUEST == b ]]; then
    echo booted >> /shared/lives
    life=$(wc -l < /shared/lives)
    rm -f "$RESULTS/server.log"
    "$RNBD_BIN/rnbd-server" daemon --dev-search-path /dev 2> "$RESULTS/server.log" &
    server_pid=$!
    vm_wait_until 60 listens
    vm_signal "listens-$life"
    vm_wait unmapped 500
    pair_stop
    sha256sum < /dev/vda > /shared/on-disk
    vm_signal compared
    exit 0
fi

vm_load_modules nbd ext4
pair_start_client
vm_wait listens-1 100
server=$(vm_address b 0)
fs_node=$(pair_map "server=ip:$server" device_path=vdb)
mkfs.ext4 -q "$fs_node"
mkdir -p /mnt/rnbd
mount "$fs_node" /mnt/rnbd
node=$(pair_map "server=ip:$server" device_path=vda)
verified_fio raw "$node" --numjobs=2 --iodepth=16 --size=16M --offset_increment=16M
verified_fio fs /mnt/rnbd/file --iodepth=4 --size=16M --fsync=16
vm_wait_until 60 moved
for ((life = 2; life <= times + 1; ++life)); do
    a_moment 2
    vm_step "the server's host is reset"
    vm_reset b
    vm_wait "listens-$life" 100
    vm_step "its server listens"
    until_moves reset
done

stop_fio
kernel_saw_no_error
umount /mnt/rnbd
fsck.ext4 -fn "$fs_node" > "$RESULTS/fsck.log" || vm_fail "$(cat "$RESULTS/fsck.log")"
blockdev --flushbufs "$node"
sha256sum < "$node" > /tmp/seen
rnbd-client unmap "$node"
rnbd-client unmap "$fs_node"
vm_signal unmapped
vm_wait compared 100
cmp /tmp/seen /shared/on-disk
pair_stop
vm_step "stalls in ms, from where the server listened again"
say_stalls
vm_step "done"
