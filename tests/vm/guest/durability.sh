#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# FLUSH and FUA mean what they say, from the application's fsync to the server's disk. The disk (dm-log-writes) keeps a
# log of what was certain to survive a power cut, and when; each time a file has been fsynced on the client a mark is
# put into it. For each mark the disk is made again as a power cut right then would have left it: the file system must
# be clean once its journal has been replayed, and hold every file that had been fsynced. Arguments: how many files,
# then words of the mapping (io_mode=blockio).
set -euo pipefail
source "$VM_LIB"
source "$(dirname "$0")/pair.sh"
replay=$(dirname "$0")/replay_writes
files=${1:-12}
shift || true

vm_load_modules brd,rd_nr=3,rd_size=262144 dm-log-writes
dmsetup create logged --table "0 $((64 << 11)) log-writes /dev/ram0 /dev/ram1"
dmsetup mknodes
pair_start --dev-search-path /dev/mapper
node=$(pair_map server=ip:10.9.0.1 device_path=logged "$@")

vm_step "$files files are written and fsynced"
mkfs.ext4 -q -E nodiscard "$node"
mkdir /tmp/m
mount "$node" /tmp/m
for ((i = 1; i <= files; i++)); do
    head -c $((RANDOM * 16)) /dev/urandom > /tmp/data
    head -c $((RANDOM * 16)) /dev/urandom > "/tmp/m/unsynced.$i"
    dd if=/tmp/data of="/tmp/m/file.$i" bs=32k conv=fsync status=none
    dmsetup message logged 0 mark "synced-$i"
    echo "$(sha256sum < /tmp/data | cut -d' ' -f1)  file.$i" >> /tmp/sums
done
umount /tmp/m
rnbd-client unmap "$node"
pair_stop
pair_no_errors_logged
# The kernel puts a ring's files a moment after its process has ended.
vm_wait_until 20 dmsetup remove logged 2> /dev/null

vm_step "the disk, as it would have been left at each of these moments"
for ((i = 1; i <= files; i++)); do
    "$replay" /dev/ram1 /dev/ram2 "synced-$i"
    mount /dev/ram2 /tmp/m
    (cd /tmp/m && head -n "$i" /tmp/sums | sha256sum --quiet -c) || vm_fail "lost at moment $i"
    umount /tmp/m
    fsck.ext4 -fn /dev/ram2 > /tmp/fsck 2>&1 || vm_fail "moment $i: $(< /tmp/fsck)"
done
vm_step "done: nothing that was fsynced is ever lost"
