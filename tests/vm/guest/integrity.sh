#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Data integrity of a mapped device, as its users use it: file systems, verified fio, partitions, odd sizes, blocks of
# 4096 bytes, direct and through the page cache, and what the server's disk holds in the end.
#
#   integrity.sh [SECONDS [SERVER-OPTION…]]      SECONDS: how long fio writes at random (default 20); below a minute
#                                                all else is done with less data
set -euo pipefail
source "$VM_LIB"
source "$(dirname "$0")/pair.sh"

seconds=${1:-20}
shift || true
mib=16 file_mib=24 tree=src/transport
((seconds < 60)) || mib=64 file_mib=48 tree=src
server=ip:10.9.0.1

map() { # DEVICE WORD…: sets node
    node=$(pair_map "server=$server" "device_path=$1" "${@:2}")
}

unmap() {
    rnbd-client unmap "$node"
    [[ ! -e /sys/block/${node#/dev/}/pid ]] || vm_fail "$node is not free"
}

same_as() { # DISK: device and server's disk are the same, as far as we write
    sync
    blockdev --flushbufs "$node" "$1"
    cmp -n $((mib << 20)) "$node" "$1" || vm_fail "$node and $1 differ"
}

file_system() { # TYPE DISK
    local type=$1 disk=$2
    vm_step "$type on $disk"
    map "$disk"
    case $type in
        ext4) mkfs.ext4 -q "$node" ;;
        xfs) mkfs.xfs -qf "$node" ;;
    esac
    mkdir -p /mnt/rnbd
    mount "$node" /mnt/rnbd
    cp -a "$tree" /mnt/rnbd/tree
    pair_expect 5 EBUSY rnbd-client unmap "$node"
    umount /mnt/rnbd
    case $type in
        ext4) fsck.ext4 -fn "$node" > "$RESULTS/fsck.log" ;;
        xfs) xfs_repair -n "$node" > "$RESULTS/fsck.log" 2>&1 ;;
    esac
    mount "$node" /mnt/rnbd
    diff -r "$tree" /mnt/rnbd/tree
    fstrim -v /mnt/rnbd
    umount /mnt/rnbd
    same_as "$disk"
    unmap
}

verified_fio() { # NAME DISK FIO-OPTION…
    vm_step "fio: $1"
    fio --name="$1" --filename="$node" --verify=crc32c --verify_fatal=1 --group_reporting --minimal \
        --output="$RESULTS/fio-$1.log" "${@:3}" || vm_fail "fio $1: $(tail -n 5 "$RESULTS/fio-$1.log")"
}

vm_load_modules loop scsi_debug,dev_size_mb=64,sector_size=4096,lbpu=1,lbpws=1
vm_load_modules sd_mod xfs ext4
pair_start "$@"
vm_wait_until 20 test -b /dev/sda
tree=$(dirname "$(readlink -f "$0")")/../../../$tree
truncate -s 320M /tmp/disk
disk=$(losetup --show -f /tmp/disk)
truncate -s $((40 * 1024 * 1024 + 1536)) /tmp/odd
odd=$(losetup --show -f /tmp/odd)
truncate -s ${file_mib}M /tmp/file

file_system ext4 "$disk"
file_system xfs "$disk"

vm_step "two partitions"
map "$disk"
sfdisk -q "$node" << 'END'
label: gpt
size=100M
size=100M
END
vm_wait_until 10 test -b "${node}p2"
mkfs.ext4 -q "${node}p1"
mkfs.ext4 -q "${node}p2"
mount "${node}p2" /mnt/rnbd
echo second > /mnt/rnbd/which
pair_expect 5 EBUSY rnbd-client unmap "$node"
umount /mnt/rnbd
unmap
map "$disk"
vm_wait_until 10 test -b "${node}p2"
mount -o ro "${node}p2" /mnt/rnbd
[[ $(< /mnt/rnbd/which) == second ]]
umount /mnt/rnbd

verified_fio mixed "$disk" --ioengine=libaio --direct=1 --numjobs=4 --iodepth=32 --rw=randwrite \
    --bsrange=512-1M --bs_unaligned=0 --size="${mib}M" --offset_increment="${mib}M" --runtime="$seconds" --time_based \
    --verify_backlog=512
verified_fio trims "$disk" --ioengine=libaio --direct=1 --iodepth=16 --rw=randtrimwrite --bs=64k --size="${mib}M"
verified_fio buffered "$disk" --ioengine=psync --direct=0 --fsync=32 --rw=randwrite --bs=4k --size=$((mib / 8))M
same_as "$disk"
unmap

vm_step "one queue, requests of 1 MiB cut by us"
map "$disk" input_mode=rq io_mode=fileio
[[ $(ls -d "/sys/block/${node#/dev/}/mq/"* | wc -l) == 1 ]]
echo 1024 > "/sys/block/${node#/dev/}/queue/max_sectors_kb"
verified_fio large "$disk" --ioengine=libaio --direct=1 --iodepth=4 --rw=randwrite --bs=1M --size="${mib}M"
same_as "$disk"
unmap

vm_step "an odd size"
map "$odd"
[[ $(blockdev --getsize64 "$node") == $((40 * 1024 * 1024 + 1536)) ]] || vm_fail "size $(blockdev --getsize64 "$node")"
verified_fio odd "$odd" --ioengine=libaio --direct=1 --iodepth=8 --rw=randwrite --bs=512 --offset=41942016 --size=2560
dd if=/dev/urandom of="$node" bs=512 count=3 seek=81920 oflag=direct status=none
cmp "$node" "$odd"
unmap

vm_step "blocks of 4096 bytes"
map /dev/sda
[[ $(blockdev --getss "$node") == 4096 ]]
verified_fio big-blocks /dev/sda --ioengine=libaio --direct=1 --iodepth=16 --rw=randwrite --bsrange=4k-256k --size="${mib}M"
blkdiscard -o 8388608 -l 4194304 "$node"
same_as /dev/sda
unmap

vm_step "a file, and zeroes"
map /tmp/file io_mode=fileio
dd if=/dev/urandom of="$node" bs=1M count=$file_mib oflag=direct status=none
blkdiscard -z -o 4194304 -l 8388608 "$node"
blkdiscard -o 12582912 -l 8388608 "$node"
sync
cmp "$node" /tmp/file
[[ $(stat -c %b /tmp/file) -lt $(((file_mib - 7) * 2048)) ]] || vm_fail "the hole is not in the file: $(stat -c %b /tmp/file) blocks"
cmp -n 8388608 "$node" /dev/zero 4194304 0
unmap

vm_step "read-only"
map "$disk" access_mode=ro
[[ $(blockdev --getro "$node") == 1 ]]
! dd if=/dev/zero of="$node" bs=4k count=1 oflag=direct 2> "$RESULTS/ro.log" || vm_fail "a read-only device took a write"
unmap

losetup -d "$odd" "$disk"
pair_stop
pair_no_errors_logged
vm_step "done"
