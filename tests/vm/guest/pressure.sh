#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Write-back through a mapped device while memory is short: a writer dirties several times what its cgroup may have, with
# the client daemon in the same cgroup, and the daemon is killed in the middle. Whoever waits for memory waits for the
# daemon, which must wait for nobody.
set -euo pipefail
source "$VM_LIB"
source "$(dirname "$0")/pair.sh"

group=/sys/fs/cgroup/pressed
size_mb=256

vm_load_modules brd,rd_nr=1,rd_size=$((512 * 1024)) ext4
vm_load_modules nbd
vm_rxe_loopback
pair_start_server "$@"
mountpoint -q /sys/fs/cgroup || mount -t cgroup2 none /sys/fs/cgroup
echo +memory > /sys/fs/cgroup/cgroup.subtree_control
mkdir "$group"
# The daemon's own: 64 MiB of buffers, journals, and itself, all locked.
echo $((192 << 20)) > "$group/memory.max"
echo 0 > "$group/memory.swap.max" 2> /dev/null || true

in_group() { # COMMAND…: this shell becomes COMMAND, in the group
    echo "$BASHPID" > "$group/cgroup.procs"
    exec "$@"
}

(in_group "$RNBD_BIN/rnbd-client" daemon --supervise) 2>> "$RESULTS/client.log" &
client_pid=$!
vm_wait_until 60 rnbd-client list > /dev/null 2> "$RESULTS/wait.log" || vm_fail "no client: $(tail -n 3 "$RESULTS/client.log")"
node=$(pair_map server=ip:10.9.0.1 device_path=/dev/ram0)
mkfs.ext4 -q "$node"
mkdir -p /mnt/rnbd
mount "$node" /mnt/rnbd

vm_step "writing $size_mb MiB through the page cache within $(($(< "$group/memory.max") >> 20)) MiB"
(in_group fio --name=pressure --filename=/mnt/rnbd/file --size=${size_mb}M --rw=randwrite --bs=256k --ioengine=psync \
    --verify=crc32c --verify_fatal=1 --output="$RESULTS/fio.log") &
fio_pid=$!
daemon=
read -r daemon _ < "/proc/$client_pid/task/$client_pid/children" || [[ -n $daemon ]]
full() { (($(< "$group/memory.current") > (180 << 20))); }
vm_wait_until 120 full || vm_fail "memory never got short: $(< "$group/memory.current")"
kill -KILL "$daemon"
wait "$fio_pid" || vm_fail "fio: $(tail -n 5 "$RESULTS/fio.log")"
vm_step "$(grep -E '^(max|oom|oom_kill) ' "$group/memory.events" | tr '\n' ' ')"
(($(awk '$1 == "max" { print $2 }' "$group/memory.events") > 0)) || vm_fail "the limit was never met"
(($(awk '$1 == "oom_kill" { print $2 }' "$group/memory.events") == 0)) || vm_fail "somebody was killed for memory"
umount /mnt/rnbd
fsck.ext4 -fn "$node" > "$RESULTS/fsck.log" 2>&1 || vm_fail "$(cat "$RESULTS/fsck.log")"
rnbd-client unmap "$node"
pair_stop
pair_no_errors_logged
vm_step "done"
