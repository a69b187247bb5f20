# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# What guest scripts share. A script begins with:
#
#     #!/bin/bash
#     set -euo pipefail
#     source "$VM_LIB"
#
# The bench gives it GUEST (a or b), GUESTS, LINKS, RESULTS (a directory kept on the host), VM_LIB (this file), and
# every RNBD_… variable of the caller. Link i is eth<i>; guest a is host 1 on it, guest b host 2:
# 10.9.<i>.1/24 and fd09:0:0:<i>::1/64. All waits are bounded; a function that fails returns non-zero, so `set -e` ends
# the script.

vm_step() { # TEXT…: print a headline, with the seconds since the guest started
    printf '[%6.1f] == %s\n' "$(cut -d' ' -f1 /proc/uptime)" "$*"
}

vm_fail() { # TEXT…: say why, and end the script (or subshell) with 1
    printf '[%6.1f] FAILED: %s\n' "$(cut -d' ' -f1 /proc/uptime)" "$*" >&2
    exit 1
}

vm_wait_until() { # SECONDS COMMAND…: poll COMMAND until it succeeds; 1 and a message when the time is over
    local seconds=$1 end=$((${EPOCHREALTIME/./} + $1 * 1000000))
    shift
    until "$@"; do
        if ((${EPOCHREALTIME/./} >= end)); then
            echo "vm_wait_until: not within $seconds s: $*" >&2
            return 1
        fi
        sleep 0.05
    done
}

# --- The two guests together ---------------------------------------------------------------------------------------

vm_signal() { # NAME: let both guests' `vm_wait NAME` return, now or later
    : > "/shared/signal.$1"
}

vm_wait() { # NAME [SECONDS=60]: wait until either guest has done `vm_signal NAME`
    vm_wait_until "${2:-60}" test -e "/shared/signal.$1"
}

vm_ask() { # WORD…: have the host do it
    local id=$BASHPID.$RANDOM answer
    exec {vm_lock}> /run/vm_ask.lock
    flock -w 30 "$vm_lock" # a port can be opened once at a time
    exec {vm_port}<> /dev/virtio-ports/vm.request
    echo "$1 $id ${*:2}" >&"$vm_port"
    # An answer to a request that was given up on may come first; it has another id.
    while read -rt 20 -u "$vm_port" answer; do
        [[ $answer == "$id "* ]] && break
    done
    exec {vm_port}>&- {vm_lock}>&-
    [[ ${answer:-} == "$id ok" ]] || {
        echo "vm_ask $*: ${answer:-no answer}" >&2
        return 1
    }
}

vm_link() { # GUEST LINK on|off: have the host plug in or pull the link's cable at GUEST
    # GUEST sees its carrier go; the other end only that nothing comes through any more, in either direction.
    vm_ask link "$@"
}

vm_pause() { # GUEST on|off: have the host stop the other GUEST's processors, or let them go on
    # It answers nothing meanwhile, and its clock stands still: it does not know.
    vm_ask pause "$@"
}

vm_cut_power() { # GUEST: have the host pull the other GUEST's plug; for the run its script has ended with 0
    vm_ask cut "$@"
}

vm_reset() { # GUEST: have the host press the other GUEST's reset button; its script starts again from the top
    # Nobody there is told, as with a power cut; what its disks hold and /results and /shared are as they were.
    vm_ask reset "$@"
}

# --- Modules ---------------------------------------------------------------------------------------------------------

vm_load_modules() { # MODULE[,PARAMETER=VALUE…]…: modprobe each; for example: vm_load_modules nbd brd,rd_nr=2
    local each
    for each in "$@"; do
        # shellcheck disable=SC2086 # the words are wanted
        modprobe ${each//,/ }
    done
}

# --- RDMA ------------------------------------------------------------------------------------------------------------

vm_address() { # GUEST LINK [4|6]: the address of GUEST on LINK
    local host=1
    [[ $1 == b ]] && host=2
    if [[ ${3:-4} == 6 ]]; then echo "fd09:0:0:$2::$host"; else echo "10.9.$2.$host"; fi
}

vm_has_gid() { # DEVICE GID: whether port 1 of DEVICE has it (written out in full, as sysfs does)
    # The first ten of a thousand entries; unused ones give an error when read.
    grep -sqxF "$2" "/sys/class/infiniband/$1/ports/1/gids/"[0-9]
}

vm_is_up() { # INTERFACE: whether it has a carrier (a dummy says "unknown", which will do)
    [[ $(< "/sys/class/net/$1/operstate") != down ]]
}

vm_rxe_on() { # INTERFACE NETWORK HOST RXE: addresses 10.9.NETWORK.HOST and its IPv6 twin on INTERFACE, RXE over it
    local interface=$1 network=$2 host=$3 rxe=$4
    # 4500 lets rxe send packets of 4096 bytes. A NIC that cannot keeps what it has.
    ip link set "$interface" mtu 4500 2> /dev/null || echo "$interface keeps its mtu"
    ip -batch - << END
link set $interface up
address add 10.9.$network.$host/24 dev $interface
address add fd09:0:0:$network::$host/64 dev $interface nodad
END
    vm_wait_until 10 vm_is_up "$interface"
    rdma link add "$rxe" type rxe netdev "$interface"
    # The GID table is filled by a worker; a connection made before it has done so fails.
    vm_wait_until 10 vm_has_gid "$rxe" "$(printf '0000:0000:0000:0000:0000:ffff:0a09:%02x%02x' "$network" "$host")"
    vm_wait_until 10 vm_has_gid "$rxe" "$(printf 'fd09:0000:0000:%04x:0000:0000:0000:%04x' "$network" "$host")"
}

vm_rxe_loopback() { # rxe0 on a dummy interface dm0, 10.9.0.1 and fd09::1, which connects to itself
    vm_load_modules dummy,numdummies=0 rdma_rxe rdma_ucm
    ip link add dm0 type dummy
    vm_rxe_on dm0 0 1 rxe0
}

vm_rxe_links() { # rxe<i> on eth<i> for every link i; both guests call it
    local link host=1
    [[ $GUEST == b ]] && host=2
    vm_load_modules rdma_rxe rdma_ucm
    for ((link = 0; link < LINKS; link++)); do
        vm_rxe_on "eth$link" "$link" "$host" "rxe$link"
    done
}
