#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Every error a user meets on the command line: its words, its exit code, and that a failed map leaves nothing behind.
set -euo pipefail
source "$VM_LIB"
source "$(dirname "$0")/pair.sh"

server=server=ip:10.9.0.1

nothing_left() { # no node, no session, no chunk, on either side
    [[ $(rnbd-client list --json | tr -d ' \n') == '{"schema_version":1,"devices":[]}' ]] || vm_fail "client: $(rnbd-client list)"
    [[ $(rnbd-server list --json | tr -d ' \n') == '{"schema_version":1,"devices":[]}' ]] || vm_fail "server: $(rnbd-server list)"
    ! compgen -G '/sys/block/nbd*/pid' > /dev/null || vm_fail "a node is left"
    vm_wait_until 10 no_sessions || vm_fail "a session is left"
}
no_sessions() {
    [[ $(grep -c 'is up on' "$RESULTS/server.log") == $(grep -c 'is gone' "$RESULTS/server.log") ]]
}

vm_step "no daemon"
pair_expect 10 'start it: systemctl start rnbd-client' rnbd-client map "$server" device_path=/dev/ram0
pair_expect 10 'start it: systemctl start rnbd-server' rnbd-server list

vm_step "no RDMA device"
pair_expect 7 'rdma link add rxe0 type rxe' "$RNBD_BIN/rnbd-server" daemon
pair_start_client
pair_expect 7 'rdma link add rxe0 type rxe' rnbd-client map "$server" device_path=/dev/ram0

vm_step "no server there"
vm_rxe_loopback
pair_expect 7 ECONNREFUSED rnbd-client map "$server" device_path=/dev/ram0
begin=$SECONDS
status=0
rnbd-client map server=ip:10.9.0.77 device_path=/dev/ram0 2> "$RESULTS/expect.err" || status=$?
((status == 7 || status == 8)) || vm_fail "an absent host gave $status: $(< "$RESULTS/expect.err")"
((SECONDS - begin < 20)) || vm_fail "an absent host took $((SECONDS - begin)) s"

vm_step "no nbd in the kernel"
vm_load_modules brd,rd_nr=2,rd_size=65536 null_blk,nr_devices=1,gb=1
pair_start_server --dev-search-path /dev
pair_expect 7 'modprobe nbd' rnbd-client map "$server" device_path=ram0
nothing_left
vm_load_modules nbd

vm_step "bad words"
pair_expect 2 'device_path' rnbd-client map "$server" device_pat=ram0
pair_expect 2 'access_mode.*ro' rnbd-client map "$server" device_path=ram0 access_mode=r0
pair_expect 2 'device_path' rnbd-client map "$server"
pair_expect 2 EINVAL rnbd-client map server=ip:10.9.0.1.5 device_path=ram0
pair_expect 2 'unmap' rnbd-client unmpa /dev/nbd0
pair_expect 4 ENXIO rnbd-client map sessname=nosuch device_path=ram0
nothing_left

vm_step "names on the server"
pair_expect 4 ENOENT rnbd-client map "$server" device_path=nosuch
pair_expect 2 EINVAL rnbd-client map "$server" device_path=../etc/passwd
ln -s /etc/passwd /dev/outside
pair_expect 6 EACCES rnbd-client map "$server" device_path=outside access_mode=ro
pair_expect 1 ENOTBLK rnbd-client map "$server" device_path=null
nothing_left

vm_step "gid: needs InfiniBand"
status=0
rnbd-client map server=gid:fe80::1 device_path=ram0 2> "$RESULTS/expect.err" || status=$?
cat "$RESULTS/expect.err"
((status == 7 || status == 8 || status == 2)) || vm_fail "gid gave $status"
nothing_left

vm_step "mapped already, second writer, in use"
node=$(pair_map "$server" device_path=ram0)
[[ $node == /dev/nbd0 ]]
pair_expect 3 'ram0 already mapped as /dev/nbd0' rnbd-client map "$server" device_path=ram0
pair_expect 6 EPERM rnbd-client map sessname=other path=ip:10.9.0.1 device_path=ram0
second=$(pair_map sessname=other path=ip:fd09::1 device_path=ram0 access_mode=migration)
pair_expect 6 EPERM rnbd-client map sessname=third path=ip:10.9.0.1@ip:10.9.0.1 device_path=ram0 access_mode=migration
third=$(pair_map sessname=third path=ip:10.9.0.1@ip:10.9.0.1 dest_port=1234 device_path=ram0 access_mode=ro)
rnbd-client list
rnbd-server list
exec 7< "$node"
pair_expect 5 'in use: open in' rnbd-client unmap "$node"
exec 7<&-
rnbd-client unmap "$third"
rnbd-client unmap "$second"
rnbd-client unmap "$node"
pair_expect 4 ENOENT rnbd-client unmap "$node"
nothing_left

vm_step "unmap --force of a device in use"
node=$(pair_map "$server" device_path=nullb0)
fio --name=force --filename="$node" --direct=1 --ioengine=libaio --iodepth=32 --rw=randwrite --bs=4k --size=512M \
    --time_based --runtime=60 > "$RESULTS/force.log" 2>&1 &
fio_pid=$!
busy() { (($(awk '{print $5}' "/sys/block/${node#/dev/}/stat") > 100)); }
vm_wait_until 30 busy
begin=$SECONDS
rnbd-client unmap "$node" --force
((SECONDS - begin < 20)) || vm_fail "force took $((SECONDS - begin)) s"
! wait "$fio_pid" || vm_fail "fio saw no error"
is_free() { [[ ! -e /sys/block/${node#/dev/}/pid ]]; }
vm_wait_until 10 is_free
nothing_left

vm_step "a node of our choice, disconnected by somebody else"
node=$(pair_map "$server" device_path=ram1 device=/dev/nbd5)
[[ $node == /dev/nbd5 ]]
nbd-client -d "$node"
vm_wait_until 20 nothing_left

vm_step "several daemons side by side"
"$RNBD_BIN/rnbd-server" daemon --port-nr 1235 --control /run/second.sock --sess-queue-depth 4 --max-io-size 4096 --log-level debug 2> "$RESULTS/second.log" &
second_pid=$!
vm_wait_until 30 rnbd-server list --control /run/second.sock
node=$(pair_map sessname=tiny path=ip:10.9.0.1 dest_port=1235 device_path=/dev/ram1)
dd if=/dev/urandom of="$node" bs=1M count=4 oflag=direct status=none
sync
cmp -n 4194304 "$node" /dev/ram1
rnbd-server list --control /run/second.sock | grep ram1 > /dev/null
pair_expect 5 EADDRINUSE "$RNBD_BIN/rnbd-server" daemon --control /run/third.sock --port-nr 1235
pair_expect 5 EADDRINUSE "$RNBD_BIN/rnbd-client" daemon
rnbd-client unmap "$node"
pair_end second "$second_pid"

vm_step "no leave to pin memory"
(
    ulimit -l 8192
    exec setpriv --bounding-set -ipc_lock,-sys_resource --inh-caps -ipc_lock,-sys_resource \
        "$RNBD_BIN/rnbd-server" daemon --port-nr 1236 --control /run/poor.sock
) 2> "$RESULTS/poor.log" &
poor_pid=$!
vm_wait_until 30 rnbd-server list --control /run/poor.sock
pair_expect 1 ENOMEM rnbd-client map sessname=poor path=ip:10.9.0.1 dest_port=1236 device_path=/dev/ram1
grep -E 'RLIMIT_MEMLOCK' "$RESULTS/poor.log" || vm_fail "the server does not say why: $(cat "$RESULTS/poor.log")"
pair_end poor "$poor_pid"
nothing_left

pair_stop
vm_step "done"
