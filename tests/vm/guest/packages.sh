#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The Debian packages under systemd: installed, started, used by way of udev's links and fstab, upgraded while a file
# system is mounted, removed. systemd runs as the first process of a PID namespace, on the host's own Debian.
#
#   packages.sh DIRECTORY        with the .debs: build/release/packages
set -euo pipefail
source "$VM_LIB"
packages=$(realpath "$1")
export DEBIAN_FRONTEND=noninteractive

source "$(dirname "$0")/systemd.sh"

main_pid() { inside systemctl show -P MainPID rnbd-client; }
is_another() { # PID: the client runs, and it is not this one
    local now
    now=$(main_pid)
    [[ $now != 0 && $now != "$1" ]] && rnbd-client list > /dev/null 2>&1
}
leads_to() { [[ $(readlink -f "$1") == "$2" ]]; }

vm_step "installing"
prepare_for_systemd
vm_load_modules nbd brd,rd_nr=1,rd_size=65536
vm_rxe_loopback
dpkg -i "$packages"/rnbd-client_*.deb "$packages"/rnbd-server_*.deb
boot
for unit in rnbd-client rnbd-server; do
    [[ $(inside systemctl is-enabled $unit || true) == disabled ]] || vm_fail "$unit is enabled by its package"
    inside systemd-analyze verify "/lib/systemd/system/$unit.service"
done

vm_step "starting; a map, its links"
truncate -s 64M /var/lib/rnbd/exports/vol1
start rnbd-server.service
start rnbd-client.service
node=$(rnbd-client map sessname=blya path=ip:10.9.0.1 device_path=vol1) || { explain rnbd-server; explain rnbd-client; exit 1; }
for link in /dev/rnbd/blya/vol1 /dev/disk/by-id/rnbd-blya:vol1; do leads_to $link "$node" || vm_fail "$link does not lead to $node"; done
inside sfdisk --quiet "$node" <<< ',,'
settled
for link in /dev/rnbd/blya/vol1-part1 /dev/disk/by-id/rnbd-blya:vol1-part1; do
    vm_wait_until 10 leads_to $link "${node}p1" || vm_fail "$link does not lead to ${node}p1"
done
[[ $(< "/sys/block/${node#/dev/}/queue/scheduler") == *'[none]'* ]] || vm_fail "the scheduler is not none"

vm_step "what the journal knows of it"
knows() { # TEXT MATCH…
    [[ $(journal "${@:2}") == *"$1"* ]]
}
vm_wait_until 20 knows "vol1 of session blya is $node" -t rnbd-client PRIORITY=6 RNBD_SESSION=blya "RNBD_DEVICE=$node"
vm_wait_until 20 knows 'session blya of' -u rnbd-server RNBD_SESSION=blya
! knows blya -t rnbd-client RNBD_SESSION=nobody || vm_fail "lines about a session are found under another"

vm_step "who may look, and who may change"
readers=$(getent group rnbd | cut -d: -f3)
as_reader() { setpriv --reuid=65534 --regid=65534 --groups="$readers" "$@"; }
ends_with() { # CODE COMMAND…
    local code=0
    "${@:2}" || code=$?
    ((code == $1)) || vm_fail "${*:2}: exit code $code, not $1"
}
for side in client server; do
    [[ $(stat -c '%U:%G %a' /run/rnbd/$side.sock) == 'root:rnbd 660' ]] || vm_fail "$(ls -l /run/rnbd)"
    as_reader "rnbd-$side" list
    ends_with 6 setpriv --reuid=65534 --regid=65534 --clear-groups "rnbd-$side" list
done
ends_with 6 as_reader rnbd-client unmap "$node"
ends_with 6 as_reader rnbd-server drain
vm_wait_until 20 knows "of user 65534 has asked for 'drain'" -u rnbd-server

vm_step "names that are no names: blanks, quotes, another directory"
odd='a b"$(touch /tmp/owned)/../../x'
truncate -s 8M "/var/lib/rnbd/exports/a b\"\$(touch "
cp --sparse=always /dev/null /var/lib/rnbd/exports/empty
rnbd-client map sessname=blya "device_path=$odd" && vm_fail "a name with .. was mapped"
mv "/var/lib/rnbd/exports/a b\"\$(touch " '/var/lib/rnbd/exports/a b"$(x)'
odd_node=$(rnbd-client map sessname=blya 'device_path=a b"$(x)')
leads_to '/dev/rnbd/blya/a\x20b\x22\x24\x28x\x29' "$odd_node" || { find /dev/rnbd; vm_fail "the odd name has no link"; }
rnbd-client unmap "$odd_node"

vm_step "a file system by fstab; the client is restarted, killed and stopped dead under it"
mkfs.ext4 -q "${node}p1"
mkdir -p /srv/vol1
echo '/dev/disk/by-id/rnbd-blya:vol1-part1 /srv/vol1 ext4 _netdev,noauto 0 0' > /etc/fstab
inside systemctl daemon-reload
start srv-vol1.mount
inside sh -c 'echo before > /srv/vol1/file; sync'
pid=$(main_pid)
inside systemctl restart rnbd-client
vm_wait_until 60 is_another "$pid" || { explain rnbd-client; vm_fail "not restarted"; }
inside sh -c 'echo restarted >> /srv/vol1/file; sync'
pid=$(main_pid)
inside kill -KILL "$pid"
vm_wait_until 60 is_another "$pid" || { explain rnbd-client; vm_fail "not started again"; }
inside sh -c 'echo killed >> /srv/vol1/file; sync'
mkdir -p /run/systemd/system/rnbd-client.service.d
printf '[Service]\nWatchdogSec=3\n' > /run/systemd/system/rnbd-client.service.d/watchdog.conf
inside systemctl daemon-reload
inside systemctl restart rnbd-client
vm_wait_until 60 rnbd-client list > /dev/null
pid=$(main_pid)
inside kill -STOP "$pid"
vm_wait_until 90 is_another "$pid" || { explain rnbd-client; vm_fail "the watchdog did not bite"; }
journal -u rnbd-client | grep -i watchdog | head -n 2
inside sh -c 'echo watched >> /srv/vol1/file; sync'

vm_step "packages over packages; none is removed from under a mapped device"
pid=$(main_pid)
inside dpkg -i "$packages"/rnbd-client_*.deb "$packages"/rnbd-server_*.deb
vm_wait_until 60 is_another "$pid" || { explain rnbd-client; vm_fail "not replaced by the new package's"; }
inside sh -c 'echo upgraded >> /srv/vol1/file; sync'
! inside dpkg -r rnbd-client || vm_fail "the package was removed from under a mapped device"
leads_to /dev/rnbd/blya/vol1 "$node" || vm_fail "the link is gone"

vm_step "shutdown with the file system mounted; from now on the tab names it"
echo 'vol1 blya vol1 path=ip:10.9.0.1' > /etc/rnbd/rnbdtab
[[ -z $(rnbd-client apply -n) ]] || vm_fail "apply would do something: $(rnbd-client apply -n)"
echo '/dev/disk/by-id/rnbd-blya:vol1-part1 /srv/vol1 ext4 _netdev,nofail 0 0' > /etc/fstab
began=$SECONDS
shut_down 60
echo "took $((SECONDS - began)) s"
[[ ! -e /sys/block/${node#/dev/}/pid ]] || vm_fail "$node is still connected"

vm_step "next boot: mapped and mounted by itself, and the data is there"
boot
start rnbd-server.service
start remote-fs.target
is_mounted() { [[ $(inside systemctl is-active srv-vol1.mount) == active ]]; }
vm_wait_until 60 is_mounted || { explain rnbd-map@vol1; explain rnbd-client; vm_fail "not mounted by the tab and fstab"; }
inside systemd-analyze verify rnbd-map@vol1.service
node=$(rnbd-client map --tab vol1)
vm_step "shutdown with the file system mounted, and the server gone"
inside systemctl is-active --quiet rnbd-shutdown || vm_fail "nothing will be done about servers that are away"
inside cat /srv/vol1/file # what is written next waits in the page cache then, and not for a read
inside systemctl kill -s KILL rnbd-server
inside systemctl stop rnbd-server
inside sh -c 'echo lost >> /srv/vol1/file'
began=$SECONDS
shut_down 60
echo "took $((SECONDS - began)) s"
((SECONDS - began < 40)) || vm_fail "that is too long"
[[ ! -e /sys/block/${node#/dev/}/pid ]] || vm_fail "$node is still connected"
boot
start rnbd-server.service
start remote-fs.target
vm_wait_until 60 is_mounted || { explain rnbd-map@vol1; explain rnbd-client; vm_fail "not mounted again"; }
node=$(rnbd-client map --tab vol1)
words=$(inside cat /srv/vol1/file)
[[ $(xargs <<< "$words") == "before restarted killed watched upgraded"* ]] || vm_fail "the file says: $words"
inside umount /srv/vol1
inside fsck.ext4 -fn "${node}p1"
inside systemctl stop rnbd-map@vol1
[[ -z $(rnbd-client list --noheaders) ]] || vm_fail "its unit is stopped, and it is still mapped"
start rnbd-map@vol1
stays() { # TITLE: whatever becomes of the client, what it has mapped stays, and so do the units
    vm_wait_until 60 is_another "$pid" || { explain rnbd-client; vm_fail "$1: not started again"; }
    [[ $(inside systemctl is-active rnbd-map@vol1 || true) == active ]] || { explain rnbd-map@vol1; vm_fail "$1: it is stopped"; }
    [[ $(rnbd-client list --noheaders | wc -l) == 1 ]] || vm_fail "$1: $(rnbd-client list)"
}
pid=$(main_pid)
inside kill -KILL "$pid"
stays "killed"
pid=$(main_pid)
rnbd-client upgrade
stays "upgraded"
pid=$(main_pid)
inside systemctl restart rnbd-client
stays "restarted"
inside systemctl stop rnbd-client
start rnbd-client
[[ -z $(rnbd-client list --noheaders) ]] || vm_fail "a client that was stopped has kept a device"
rnbd-client apply
rnbd-client unmap "$(rnbd-client map --tab vol1)"
rm /etc/rnbd/rnbdtab
settled
for link in /dev/rnbd/blya/vol1 /dev/rnbd/blya/vol1-part1 /dev/disk/by-id/rnbd-blya:vol1; do
    vm_wait_until 10 test ! -e $link || vm_fail "$link stays behind"
done

vm_step "a block device as the configuration says, by a reload; a wrong one is refused"
pid=$(inside systemctl show -P MainPID rnbd-server)
mkdir -p /etc/rnbd/server.toml.d
echo 'dev_search_path = "/dev' > /etc/rnbd/server.toml.d/dev.toml
! inside systemctl reload rnbd-server || vm_fail "a wrong configuration was reloaded"
echo 'dev_search_path = "/dev"' > /etc/rnbd/server.toml.d/dev.toml
inside systemctl reload rnbd-server
echo 'on_no_path = "fail-after:60"' >> /etc/rnbd/client.toml
inside systemctl reload rnbd-client
node=$(rnbd-client map sessname=blya path=ip:10.9.0.1 device_path=ram0 persist=yes)
inside dd if=/dev/urandom of="$node" bs=64k count=64 oflag=direct status=none
cmp -n $((4 << 20)) "$node" /dev/ram0
[[ $(inside systemctl show -P MainPID rnbd-server) == "$pid" ]] || vm_fail "a reload has restarted the server"

vm_step "what persists comes back after a boot"
shut_down 60
boot
start rnbd-server.service
start rnbd-client.service
is_mapped() { [[ $(rnbd-client list --noheaders | wc -l) == 1 ]]; }
vm_wait_until 60 is_mapped || { explain rnbd-client; vm_fail "not mapped again"; }
vm_wait_until 30 leads_to /dev/rnbd/blya/ram0 "$node"
rnbd-client unmap "$node"

vm_step "removing"
inside dpkg --purge rnbd-client
inside dpkg -r rnbd-server
[[ -e /etc/rnbd/server.toml ]] || vm_fail "the configuration went with the package"
rm -r /etc/rnbd/server.toml.d
inside dpkg --purge rnbd-server
! compgen -G '/var/lib/rnbd/*.json' || vm_fail "purging leaves what was remembered"
[[ ! -e /etc/rnbd ]] || vm_fail "purging leaves $(ls /etc/rnbd)"
shut_down 60
