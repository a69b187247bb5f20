#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# A client and a server, each ours or the kernel's, through what a block device is for, with always_invalidate and
# without it.
#
#   interop.sh CLIENT SERVER [SECONDS [CYCLES]]      CLIENT, SERVER: ours or kernel. How long fio writes at random, and
#                                                    how often a device is mapped and unmapped, in each mode; below
#                                                    four seconds, a quarter of the data, and only once what keys have
#                                                    no part in
set -euo pipefail
source "$VM_LIB"
source "$(dirname "$0")/pair.sh"
source "$(dirname "$0")/sides.sh"

client_side=$1
server_side=$2
seconds=${3:-4}
cycles=${4:-10}
mib=$((seconds < 4 ? 8 : 32))

verified_fio() { # NAME NODE FIO-OPTION…
    fio --name="$1" --filename="$2" --direct=1 --ioengine=libaio --verify=crc32c --verify_fatal=1 --group_reporting \
        --minimal --output="$RESULTS/fio-$1.log" "${@:3}" || vm_fail "fio $1: $(tail -n 5 "$RESULTS/fio-$1.log")"
}

same_as() { # NODE DISK
    sync
    blockdev --flushbufs "$1" "$2"
    cmp "$1" "$2" || vm_fail "$1 and $2 differ"
}

asked() { # WHAT PATTERN: the disk was asked for it
    trace_end > "$RESULTS/trace-${1// /-}"
    grep -qE "$2" "$RESULTS/trace-${1// /-}" || vm_fail "no $1 came to the disk, but: $(sort "$RESULTS/trace-${1// /-}" | uniq -c)"
}

operations() {
    vm_step "$1: each operation, as the server's disk sees it"
    local node
    node=$(client_map "$1" /dev/sda)
    [[ $(blockdev --getsize64 "$node") == $((64 << 20)) ]] || vm_fail "size: $(blockdev --getsize64 "$node")"
    dd if=/dev/urandom of=/tmp/data bs=1M count=4 status=none
    trace_begin
    dd if=/tmp/data of="$node" bs=512k oflag=direct status=none
    asked write '^W'
    trace_begin
    blockdev --flushbufs "$node"
    dd if="$node" bs=512k count=8 iflag=direct status=none | cmp - /tmp/data
    asked read '^R'
    trace_begin
    dd if=/dev/zero of="$node" bs=4k count=1 seek=1024 conv=fsync status=none
    asked flush '^F'
    [[ $(< "/sys/block/${node#/dev/}/queue/fua") == 1 && $(< /sys/block/sda/queue/fua) == 1 ]] || vm_fail "no FUA"
    trace_begin
    dd if=/dev/zero of="$node" bs=4k count=1 seek=1025 oflag=direct,dsync status=none
    asked FUA '^F?WF'
    trace_begin
    blkdiscard -o $((1 << 20)) -l $((1 << 20)) "$node"
    asked discard '^D'
    trace_begin
    blkdiscard -z -o $((2 << 20)) -l $((1 << 20)) "$node"
    asked "write of zeroes" '^[WN]'
    cmp -n $((1 << 20)) "$node" /dev/zero $((2 << 20)) 0
    cmp -n $((1 << 20)) "$node" /tmp/data
    cmp -n $((1 << 20)) "$node" /tmp/data $((3 << 20)) $((3 << 20))
    same_as "$node" /dev/sda
    client_unmap "$node"
}

random_io() {
    vm_step "$1: verified fio"
    local node
    node=$(client_map "$1" /dev/sda)
    verified_fio mixed "$node" --numjobs=2 --iodepth=64 --rw=randwrite --bsrange=512-1M --bs_unaligned=0 --size="${mib}M" \
        --offset_increment="${mib}M" --runtime="$seconds" --time_based --verify_backlog=256
    verified_fio deep "$node" --iodepth=256 --rw=randwrite --bs=4k --size=$((mib / 4))M
    verified_fio trims "$node" --iodepth=16 --rw=randtrimwrite --bs=64k --size=$((mib / 2))M
    same_as "$node" /dev/sda
    client_unmap "$node"
}

file_system() {
    vm_step "$1: a file system"
    local node
    node=$(client_map "$1" /dev/sda)
    mkfs.ext4 -q -E nodiscard "$node"
    mount "$node" /mnt/rnbd
    cp -a "$tree" /mnt/rnbd/tree
    client_refused EBUSY client_unmap "$node"
    umount /mnt/rnbd
    fsck.ext4 -fn "$node" > "$RESULTS/fsck.log" 2>&1 || vm_fail "$(< "$RESULTS/fsck.log")"
    mount "$node" /mnt/rnbd
    diff -r "$tree" /mnt/rnbd/tree
    fstrim /mnt/rnbd
    umount /mnt/rnbd
    same_as "$node" /dev/sda
    client_unmap "$node"
}

access_modes() {
    vm_step "$1: several devices of one session, access modes between sessions, refusals"
    local first second third other
    client_refused ENOENT client_map "$1" /dev/nosuch
    client_refused EINVAL client_map "$1" /dev/../etc/passwd
    first=$(client_map "$1" /dev/ram0)
    client_refused EEXIST client_map "$1" /dev/ram0
    client_refused ENOENT client_map "$1" /dev/nosuch
    other=$(client_map "$1" /dev/ram1 access_mode=ro)
    [[ $(blockdev --getro "$other") == 1 && $(blockdev --getro "$first") == 0 ]] || vm_fail "read-only: $(lsblk)"
    client_refused EPERM client_map "$1-2" /dev/ram0
    second=$(client_map "$1-2" /dev/ram0 access_mode=migration)
    client_refused EPERM client_map "$1-3" /dev/ram0 access_mode=migration
    client_refused EPERM client_map "$1-3" /dev/ram0
    third=$(client_map "$1-3" /dev/ram0 access_mode=ro)
    diff <(server_devices | sort) <(printf '/dev/ram0 %s\n' "$1 rw" "$1-2 migration" "$1-3 ro"; echo "/dev/ram1 $1 ro") ||
        vm_fail "the server's list"
    dd if=/tmp/data of="$first" bs=256k count=2 oflag=direct status=none
    dd if=/tmp/data of="$second" bs=256k count=2 seek=2 skip=2 oflag=direct status=none
    cmp -n $((1 << 20)) "$third" /tmp/data
    ! dd if=/tmp/data of="$third" bs=4k count=1 oflag=direct 2> /dev/null || vm_fail "a read-only device took a write"
    ! dd if=/tmp/data of="$other" bs=4k count=1 oflag=direct 2> /dev/null || vm_fail "a read-only device took a write"
    cmp -n $((1 << 20)) /dev/ram1 /dev/zero
    client_unmap "$first"
    first=$(client_map "$1" /dev/ram0 access_mode=migration)
    client_unmap "$first"
    client_unmap "$second"
    client_unmap "$third"
    client_unmap "$other"
    vm_wait_until 10 server_has_nothing
}

grows() { # asked for, for the kernel's server does not tell
    vm_step "$1: a disk that grows"
    local node disk
    truncate -s 16M /tmp/grows
    disk=$(losetup -f --show /tmp/grows)
    node=$(client_map "$1" "$disk")
    truncate -s 32M /tmp/grows
    losetup -c "$disk"
    [[ $(rnbd-client resize "$node") == $((32 << 20)) ]] || vm_fail "another size: $(rnbd-client list)"
    [[ $(blockdev --getsize64 "$node") == $((32 << 20)) ]] || vm_fail "the kernel has another size: $(lsblk "$node")"
    dd if=/tmp/data of="$node" bs=1M count=2 seek=28 oflag=direct status=none
    cmp -n $((2 << 20)) -i $((28 << 20)):0 "$node" /tmp/data
    client_unmap "$node"
    vm_wait_until 10 server_has_nothing
    losetup -d "$disk"
}

server_goes() { # both ways of ending it, and both orders
    vm_step "$1: the server goes first, comes back"
    local node depth
    node=$(client_map "$1" /dev/ram0)
    dd if=/tmp/data of="$node" bs=1M count=4 oflag=direct status=none
    server_stop KILL
    vm_wait_until 20 client_state_is "$node" closed
    server_start "$2"
    client_reconnect "$1"
    vm_wait_until 90 client_state_is "$node" open
    dd if="$node" bs=1M count=4 iflag=direct status=none | cmp - /tmp/data
    dd if=/dev/zero of="$node" bs=1M count=1 oflag=direct status=none
    cmp -n $((1 << 20)) /dev/ram0 /dev/zero
    server_stop
    vm_wait_until 20 client_state_is "$node" closed
    client_unmap_closed "$node"
    server_start "$2"
    node=$(client_map "$1" /dev/ram0)
    cmp -n $((1 << 20)) "$node" /dev/zero
    client_unmap "$node"
}

many_times() {
    vm_step "$1: mapped and unmapped $cycles times"
    local node round
    for ((round = 0; round < cycles; round++)); do
        node=$(client_map "$1" /dev/ram0)
        dd if="$node" of=/dev/null bs=64k count=1 iflag=direct status=none
        client_unmap "$node"
    done
    vm_wait_until 10 server_has_nothing
}

vm_load_modules brd,rd_nr=2,rd_size=16384 scsi_debug,dev_size_mb=64,lbpu=1,lbpws=1 sd_mod ext4 loop
vm_rxe_loopback
vm_wait_until 20 test -b /dev/sda
tree=$(dirname "$(readlink -f "$0")")
mkdir -p /mnt/rnbd
trace_start /dev/sda
client_start
for invalidate in yes no; do
    session=$client_side-$server_side-$invalidate
    server_start "$invalidate"
    operations "$session"
    random_io "$session"
    if [[ $invalidate == yes ]] || ((seconds >= 4)); then
        file_system "$session"
        access_modes "$session"
        [[ $client_side != ours ]] || grows "$session"
        server_goes "$session" "$invalidate"
    fi
    many_times "$session"
    server_stop
done
client_stop
touch "$RESULTS/server.log" "$RESULTS/client.log"
pair_stop
pair_no_errors_logged
vm_step "done"
