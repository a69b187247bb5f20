#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Two hosts, ours (a) and one with the kernel's RNBD (b); each is the other's client and server, at the same time. The
# second path fails over, the daemons stop, the machine stops, the server goes, and everything comes back. Run with
# --guests 2 --links 2 --kernel-rnbd.
#
#   interop_faults.sh [patient]     patient: the kernel comes back by itself, and the other link is cut as well, which
#                                   takes two minutes longer
set -euo pipefail
source "$VM_LIB"
source "$(dirname "$0")/pair.sh"
source "$(dirname "$0")/sides.sh"

patient=${1:-}
# Beyond the kernel's heartbeat, which takes 30 to 35 s to miss five.
readonly notice_seconds=60

on_b() { # STEP: have b do it
    vm_signal "$1"
    vm_wait "$1-done" "${2:-120}"
}

both_paths_at_once() { # SERVER'S GUEST: a session that has two from the beginning
    local other link
    other=$(client_map both /dev/ram0 "path=ip:$(vm_address "$1" 1)")
    for link in 0 1; do vm_wait_until 20 client_path_is_up both "$(vm_address "$1" "$link")"; done
    dd if="$other" of=/dev/null bs=64k count=16 iflag=direct status=none
    client_unmap "$other"
}

first_words() { # the same on both sides, to be compared on the wire; a second device, to have CLOSE too
    local second
    dd if=/dev/zero of="$node" bs=4k count=1 oflag=direct status=none
    dd if=/dev/zero of="$node" bs=4k count=1 oflag=direct,dsync status=none
    dd if=/dev/zero of="$node" bs=4k count=1 oflag=direct conv=fsync status=none
    dd if="$node" of=/dev/null bs=4k count=1 iflag=direct status=none
    blkdiscard -o 1048576 -l 65536 "$node"
    second=$(client_map "$session" /dev/ram0)
    client_unmap "$second"
}

# --- b: the kernel's ---------------------------------------------------------------------------------------------------

await() { # STEP: a wants it
    vm_wait "$1" 400
    vm_step "$1"
}

its_state_is() { client_state_is "$node" "$1"; }
works_without() { # LINK: what is read is right, while that path is given up
    while :; do
        same_as_before || vm_fail "something else is read"
        ! client_path_is_lost kern "$(vm_address a "$1")" || return 0
    done
}
path_comes_back() { # LINK
    kernel_reconnect kern "$(vm_address a "$1")"
    vm_wait_until 60 client_path_is_up kern "$(vm_address a "$1")"
}
hears_of_client() { compgen -G '/sys/class/rtrs-server/ours/paths/*' > /dev/null; }
misses_client() { ! hears_of_client; }
same_as_before() { dd if="$node" bs=1M count=8 iflag=direct status=none | cmp - /shared/data; }

comes_back() { # the kernel's client does, 31 s after it noticed, or at once if it is told to
    [[ $patient ]] || kernel_reconnect kern
    vm_wait_until 100 its_state_is open
    same_as_before
}

kernel_host() {
    session=kern client_side=kernel server_side=kernel server_address=$(vm_address a 0)
    vm_load_modules brd,rd_nr=1,rd_size=65536 scsi_debug,dev_size_mb=64,lbpu=1,lbpws=1 sd_mod
    vm_wait_until 20 test -b /dev/sda
    server_start yes
    client_start
    vm_signal kernel-up

    await map
    node=$(client_map "$session" /dev/sda)
    first_words
    vm_signal map-done

    await fill
    dd if=/shared/data of="$node" bs=1M oflag=direct status=none
    vm_signal fill-done

    await second-path
    both_paths_at_once a
    client_add_path kern "$(vm_address a 1)"
    vm_wait_until 20 client_path_is_up kern "$(vm_address a 1)"
    vm_signal second-path-done
    for link in 0 ${patient:+1}; do
        await "without-$link"
        works_without "$link"
        vm_signal "without-$link-done"
        await "with-$link"
        path_comes_back "$link"
        same_as_before
        vm_signal "with-$link-done"
    done
    await one-path
    client_remove_path kern "$(vm_address a 1)"
    same_as_before
    vm_signal one-path-done

    await notice
    vm_wait_until "$notice_seconds" misses_client
    vm_step "the kernel's server has given our client up"
    vm_wait_until "$notice_seconds" its_state_is closed
    vm_step "the kernel's client has given our server up"
    ! dd if="$node" of=/dev/null bs=4k count=1 iflag=direct 2> /dev/null || vm_fail "it reads from nobody"
    vm_signal notice-done

    await return
    comes_back
    vm_wait_until 100 hears_of_client
    vm_signal return-done

    await reload
    if [[ $patient ]]; then
        vm_wait_until 100 its_state_is closed
        vm_wait_until 100 hears_of_client
    fi
    comes_back
    server_stop
    vm_signal reload-gone
    vm_wait reload-again 100
    server_start yes
    vm_signal reload-done

    await end
    client_unmap "$node"
    client_stop
    vm_wait_until 60 misses_client
    server_stop
    rmmod rtrs-core
    vm_signal end-done
    vm_wait over 100
}

# --- a: ours -----------------------------------------------------------------------------------------------------------

state_is() { client_state_is "$node" "$1"; }
requests() { awk '{ print $1 + $5 }' "/sys/block/${node#/dev/}/stat"; }
goes_on() { # fio does
    local before
    before=$(requests)
    moved() { (($(requests) > before + 20)); }
    vm_wait_until 60 moved || vm_fail "nothing is answered: $(rnbd-client path list; rnbd-client list; tail -n 5 "$RESULTS/fio.log")"
}
has_lost_kern() { (($(grep -c 'session kern is gone' "$RESULTS/server.log") > $1)); }
lost() { grep -c 'session kern is gone' "$RESULTS/server.log" || true; }

wire_agrees() { # as soon as all of it is in the file
    "$(dirname "$0")/../wire_check" "$RESULTS/wire.pcap" "$(vm_address a 0)" "$(vm_address b 0)" > "$RESULTS/wire.txt" 2>&1
}

our_host() {
    session=ours client_side=ours server_side=ours server_address=$(vm_address b 0)
    vm_load_modules brd,rd_nr=1,rd_size=65536 scsi_debug,dev_size_mb=64,lbpu=1,lbpws=1 sd_mod
    dd if=/dev/urandom of=/shared/data bs=1M count=8 status=none
    vm_wait_until 20 test -b /dev/sda
    server_start yes
    client_start
    vm_wait kernel-up 100

    vm_step "each maps a disk of the other, and says the same as the other"
    # Longer packets there are none; with the default the buffer has room for 64, and blkdiscard looks at the disk first.
    tcpdump -i eth0 -s 8192 -B 16384 --immediate-mode -U -w "$RESULTS/wire.pcap" udp port 4791 2> "$RESULTS/tcpdump.log" &
    tcpdump_pid=$!
    vm_wait_until 20 grep -q 'listening on' "$RESULTS/tcpdump.log"
    node=$(client_map "$session" /dev/sda)
    first_words
    on_b map
    vm_wait_until 10 wire_agrees 2> /dev/null || vm_fail "the wire: $(grep -vE '^(same|known)' "$RESULTS/wire.txt")"
    kill -INT "$tcpdump_pid"
    wait "$tcpdump_pid"
    tail -n 1 "$RESULTS/wire.txt"
    dd if=/shared/data of="$node" bs=1M oflag=direct status=none
    on_b fill
    dd if=/dev/sda bs=1M count=8 iflag=direct status=none | cmp - /shared/data
    fio --name=faults --filename="$node" --direct=1 --ioengine=libaio --iodepth=16 --rw=randwrite --bsrange=4k-64k \
        --size=32M --verify=crc32c --verify_fatal=1 --verify_backlog=64 --time_based --runtime=1000 \
        --thinktime=20ms --thinktime_blocks=16 --output="$RESULTS/fio.log" &
    fio_pid=$!
    goes_on

    vm_step "a second path, and one link after the other is cut"
    both_paths_at_once b
    client_add_path ours "$(vm_address b 1)"
    vm_wait_until 20 client_path_is_up ours "$(vm_address b 1)"
    on_b second-path
    for link in 0 ${patient:+1}; do
        vm_link a "$link" off
        on_b "without-$link" 200
        vm_wait_until 20 client_path_is_lost ours "$(vm_address b "$link")"
        goes_on
        vm_link a "$link" on
        on_b "with-$link" 200
        vm_wait_until 60 client_path_is_up ours "$(vm_address b "$link")"
        goes_on
    done
    client_remove_path ours "$(vm_address b 1)"
    on_b one-path

    vm_step "our daemons stop: SIGSTOP"
    kill -STOP "$server_pid" "$client_pid"
    on_b notice
    kill -CONT "$server_pid" "$client_pid"
    on_b return 200
    vm_wait_until 60 state_is open
    goes_on

    vm_step "the kernel's machine stops"
    local before
    before=$(lost)
    vm_pause b on
    vm_wait_until "$notice_seconds" state_is closed
    vm_step "our client has noticed"
    vm_wait_until "$notice_seconds" has_lost_kern "$before"
    vm_step "our server has noticed"
    vm_pause b off

    vm_step "the kernel's server goes, and comes back"
    vm_signal reload
    vm_wait reload-gone 200
    vm_wait_until 30 state_is closed
    vm_signal reload-again
    vm_wait reload-done 60
    vm_wait_until 60 state_is open
    goes_on
    client_refused EBUSY client_unmap "$node"
    kill -INT "$fio_pid"
    wait "$fio_pid" || true # it ends with 128 when it is told to end
    grep -q 'err= 0' "$RESULTS/fio.log" || vm_fail "fio: $(< "$RESULTS/fio.log")"

    vm_step "unmap, and the end"
    client_unmap "$node"
    on_b end
    vm_wait_until 60 server_has_nothing
    pair_stop
    pair_no_errors_logged
    vm_signal over
}

vm_rxe_links
if [[ $GUEST == b ]]; then kernel_host; else our_host; fi
vm_step "done"
