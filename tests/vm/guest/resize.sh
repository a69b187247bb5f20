#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The server's disk grows and shrinks, as logical volumes do, while two clients have it open, one of them writing and
# verifying all the time: both devices follow, udev is told, the file system grows online, and the size is right after
# the server or the client's daemon was away.
set -euo pipefail
source "$VM_LIB"
source "$(dirname "$0")/pair.sh"
source "$(dirname "$0")/load.sh"

size_to() { # MIB: as lvresize does
    dmsetup suspend volume
    dmsetup reload volume --table "0 $(($1 << 11)) linear /dev/ram0 0"
    dmsetup resume volume
}
both_have() { # MIB
    [[ $(blockdev --getsize64 "$node") == $(($1 << 20)) && $(blockdev --getsize64 "$reader") == $(($1 << 20)) ]]
}
expect_size() { # MIB
    vm_wait_until 20 both_have "$1" || vm_fail "not $1 MiB: $(lsblk "$node" "$reader") $(rnbd-client list --json)"
}
sizes_told() { # what both tools say of all devices
    rnbd-server list --json | grep -o '"size_bytes": [0-9]*' | sort -u
    rnbd-client list --json | grep -o 'size_bytes": [0-9]*' | sort -u
}
listen() { # the kernel's events about nbd devices, a line each
    python3 -uc '
import socket
events = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, 15)
events.bind((0, 1))
while True:
    fields = events.recv(65536).decode(errors="replace").split("\0")
    if "/nbd" in fields[0]: print(*fields)' > /tmp/events &
}

vm_load_modules brd,rd_nr=1,rd_size=262144 dm-mod
dmsetup create volume --uuid RNBD-TEST-volume --table "0 $((64 << 11)) linear /dev/ram0 0"
dmsetup mknodes
vm_load_modules nbd
vm_rxe_loopback
pair_start_server --dev-search-path /dev/mapper
pair_start_client --supervise
node=$(pair_map sessname=writer path=ip:10.9.0.1 device_path=volume)
reader=$(pair_map sessname=reader path=ip:10.9.0.1 device_path=volume access_mode=ro)
listen

vm_step "a file system grows under I/O"
mkfs.ext4 -q "$node"
mkdir /tmp/m
mount "$node" /tmp/m
verified_fio mounted /tmp/m/data --size=16M --iodepth=8
vm_wait_until 60 moved
size_to 128
expect_size 128
resize2fs "$node" > /tmp/resize2fs 2>&1 || vm_fail "$(< /tmp/resize2fs)"
(($(stat -f -c '%b * %S' /tmp/m) > 100 << 20)) || vm_fail "the file system has not grown: $(df /tmp/m)"
event="change@/devices/virtual/block/${node#/dev/} .*RESIZE=1"
vm_wait_until 10 grep -q "$event" /tmp/events || vm_fail "udev is not told: $(< /tmp/events)"

vm_step "while the server is away"
pair_end server "$server_pid"
size_to 160
pair_start_server --dev-search-path /dev/mapper
expect_size 160

vm_step "while the client's daemon is replaced"
for size in 170 180 190; do
    size_to "$size" &
    resizing=$!
    rnbd-client upgrade
    wait "$resizing"
    expect_size "$size"
done
kill -KILL "$(pair_daemon_pid)"
size_to 200
expect_size 200

vm_step "by hand"
size_to 220
rnbd-server revalidate
[[ $(rnbd-client resize "$node") == $((220 << 20)) ]] || vm_fail "resize says something else"
expect_size 220
stop_fio
umount /tmp/m
fsck.ext4 -fn "$node" > /tmp/fsck 2>&1 || vm_fail "$(< /tmp/fsck)"

vm_step "it shrinks"
verified_fio raw "$node" --size=16M --iodepth=8
completed
before=$done_now
more() {
    completed
    ((done_now > before + 50))
}
vm_wait_until 60 more
size_to 48
expect_size 48
[[ -z $(dd if="$node" bs=1M skip=48 count=1 iflag=direct 2> /dev/null | tr -d '\0') ]] || vm_fail "data behind the end"
pair_end server "$server_pid"
size_to 32
pair_start_server --dev-search-path /dev/mapper
expect_size 32
[[ $(sizes_told | sort -u | wc -l) == 2 ]] || vm_fail "they say different sizes: $(sizes_told)"
stop_fio
kernel_saw_no_error

rnbd-client unmap "$reader"
rnbd-client unmap "$node"
pair_stop
pair_no_errors_logged
vm_step "done"
