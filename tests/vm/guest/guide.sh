#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# A newcomer's way, whose screens docs/guide.md shows: packages, a disk exported and mapped, a file system, a link that is
# cut. What was typed and printed is in $RESULTS/guide.txt. Two adapters, each on an interface of its own.
#
#   guide.sh DIRECTORY        with the .debs: build/release/packages
set -euo pipefail
source "$VM_LIB"
packages=$(realpath "$1")
export DEBIAN_FRONTEND=noninteractive
source "$(dirname "$0")/systemd.sh"

typed() { # COMMAND [EXIT-CODE]: as a user would, its output kept; it has to end so, or well
    local code=0
    printf '# %s\n' "$1" >> "$RESULTS/guide.txt"
    inside env TERM=dumb bash -c "cd /root; $1" >> "$RESULTS/guide.txt" 2>&1 || code=$?
    ((code == ${2:-0})) || vm_fail "exit code $code: $(tail -n 20 "$RESULTS/guide.txt")"
}
path_is() { [[ $(rnbd-client path list --noheaders -o path,state | xargs) == *"$1 $2"* ]]; }
path_is_lost() { ! path_is "$1" connected; }

prepare_for_systemd
vm_load_modules nbd dummy rdma_rxe
for i in 0 1; do
    ip link add "link$i" type dummy
    ip addr add "10.0.$i.1/24" dev "link$i"
    ip link set "link$i" up
    rdma link add "rxe$i" type rxe netdev "link$i"
done
boot
inside systemctl start systemd-udevd
cp "$packages"/rnbd-*.deb /root
typed 'dpkg -i rnbd-server_*.deb rnbd-client_*.deb | grep -E "^Setting up rnbd"'
typed 'truncate -s 1G /var/lib/rnbd/exports/vol1'
typed 'systemctl start rnbd-server rnbd-client'
typed 'rnbd-client doctor'
typed 'rnbd-client discover server=ip:10.0.0.1'
typed 'rnbd-client map sessname=demo path=ip:10.0.0.1 path=ip:10.0.1.1 device_path=vol1'
typed 'rnbd-client list'
typed 'ls -l /dev/rnbd/demo/'
typed 'mkfs.ext4 -q /dev/rnbd/demo/vol1 && mkdir -p /srv/vol1 && mount /dev/rnbd/demo/vol1 /srv/vol1'
vm_wait_until 60 path_is ip:10.0.1.1 connected
typed 'rnbd-client tree'
inside fio --name=load --directory=/srv/vol1 --size=64M --rw=randrw --bs=4k --iodepth=8 --ioengine=libaio --direct=1 \
    --time_based --runtime=600 --output=/tmp/fio.log &
busy() { [[ $(rnbd-client stats --noheaders -o reads) -gt 500 ]]; }
vm_wait_until 60 busy
typed 'rnbd-client top -n 1'
rnbd-client events > "$RESULTS/events.txt" &
events=$!
typed 'ip link set link1 down'
vm_wait_until 60 path_is_lost ip:10.0.1.1
typed 'rnbd-client list'
typed 'rnbd-client tree'
typed 'rnbd-client check' 1
typed 'ip link set link1 up'
vm_wait_until 60 path_is ip:10.0.1.1 connected
typed 'rnbd-client check'
kill "$events"
{
    echo '# rnbd-client events'
    cat "$RESULTS/events.txt"
} >> "$RESULTS/guide.txt"
typed 'rnbd-server list'
typed 'rnbd-server session list'
typed 'truncate -s 2G /var/lib/rnbd/exports/vol1'
grown() { [[ $(rnbd-client list --noheaders -o size) == 2G ]]; }
vm_wait_until 60 grown
typed 'rnbd-client list -o device,size,server_size'
typed 'rnbd-client unmap /dev/nbd0' 5
inside pkill fio
typed 'umount /srv/vol1'
typed 'rnbd-client unmap /dev/nbd0'
typed 'rnbd-client list'
typed "journalctl -o cat --no-hostname -u rnbd-client | grep -v systemd | grep -vE '^(Start|Stop)'"
shut_down 60
cat "$RESULTS/guide.txt"
