#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The guests' side of tests/vm/selftest: selftest.sh CASE [ARGUMENTS] runs one case in a guest.

set -euo pipefail
source "$VM_LIB"

fail_to() { # COMMAND…: it has to fail
    if "$@"; then vm_fail "should not have worked: $*"; fi
}

reaches() { # LINK: whether guest b answers on it
    busybox ping -c 1 -W 1 "$(vm_address b "$1")" > /dev/null
}

passes() { # DIRECTORY of the host's, to try to write to
    [[ "$GUEST $GUESTS $LINKS" == "a 1 0" ]] || vm_fail "environment: $GUEST $GUESTS $LINKS"
    [[ $RNBD_SELFTEST == "two words" ]] || vm_fail "RNBD_SELFTEST is $RNBD_SELFTEST"
    [[ $(blockdev --getsize64 /dev/vda) == $((64 << 20)) ]] || vm_fail "the size of /dev/vda"
    [[ $(ls /proc/self/fd) == $'0\n1\n2\n3' ]] || vm_fail "descriptors: $(ls -l /proc/self/fd)" # 3 is ls's own
    echo written > "$1/by-the-guest"
    echo kept > "$RESULTS/kept"
    echo "on stdout"
    echo "on stderr" > /dev/stderr
    sleep 1000 & # nobody waits for it
    seq 200000
    printf 'no newline at the end'
}

fails_with_3() {
    exit 3
}

hangs() {
    echo "hanging"
    sleep infinity
}

complains() {
    echo "WARNING: as a kernel would say" > /dev/kmsg
    echo "a resource leaked" > /dev/kmsg
    echo "BUG: one that is known" > /dev/kmsg
}

panics() {
    echo c > /proc/sysrq-trigger
    sleep infinity
}

has_devices() {
    vm_step "nbd"
    vm_load_modules nbd,nbds_max=2 brd,rd_nr=1,rd_size=4096
    [[ -b /dev/nbd0 && ! -e /dev/nbd2 && -b /dev/ram0 ]] || vm_fail "block devices: $(echo /dev/nbd* /dev/ram*)"
    vm_step "rxe"
    vm_rxe_loopback
    [[ $(cat /sys/class/infiniband/rxe0/ports/1/state) == *ACTIVE ]] || vm_fail "rxe0 is not active"
    local address
    for address in 10.9.0.1 fd09::1; do
        vm_step "rping over $address"
        rping -s -a "$address" -C 3 &
        vm_wait_until 20 rping -c -a "$address" -C 3 -v
        wait $!
    done
}

linked() {
    vm_rxe_links
    vm_signal "ready-$GUEST"
    vm_wait ready-a
    vm_wait ready-b
    if [[ $GUEST == b ]]; then
        rping -s -a "$(vm_address b 1)" -C 3
        vm_wait "never" 600
    fi
    vm_step "both links, and RDMA over the second"
    vm_wait_until 10 reaches 0
    vm_wait_until 10 reaches 1
    vm_wait_until 20 rping -c -a "$(vm_address b 1)" -C 3
    vm_step "a's end of link 1 cut"
    vm_link a 1 off
    [[ $(cat /sys/class/net/eth1/carrier) == 0 ]] || vm_fail "the carrier is still there"
    fail_to reaches 1
    reaches 0
    vm_link a 1 on
    vm_wait_until 10 reaches 1
    vm_step "b's end of link 0 cut"
    vm_link b 0 off
    [[ $(cat /sys/class/net/eth0/carrier) == 1 ]] || vm_fail "a's carrier is gone too"
    fail_to reaches 0
    reaches 1
    vm_link b 0 on
    vm_wait_until 10 reaches 0
    fail_to vm_link b 7 off
    vm_step "b paused"
    vm_pause b on
    fail_to reaches 0
    vm_pause b off
    vm_wait_until 10 reaches 0
    fail_to vm_pause c on
    vm_step "the host's tool"
    vm_signal cut
    vm_wait_until 20 carrier_gone
    vm_step "done"
}

boots_again() { # guest b writes down each of its lives
    if [[ $GUEST == b ]]; then
        if [[ ! -e /shared/lives ]]; then echo "first life" | dd of=/dev/vda conv=fsync status=none; fi
        head -n 1 /dev/vda >> /shared/lives
        vm_wait "never" 600
    fi
    local life
    for life in 1 2; do
        vm_wait_until 60 has_lived "$life"
        vm_reset b
    done
    vm_wait_until 60 has_lived 3
    [[ $(sort -u /shared/lives) == "first life" ]] || vm_fail "b found something else: $(< /shared/lives)"
    fail_to vm_reset c
}

has_lived() { # TIMES
    [[ -e /shared/lives && $(wc -l < /shared/lives) == "$1" ]]
}

carrier_gone() {
    [[ $(cat /sys/class/net/eth0/carrier) == 0 ]]
}

second_fails() {
    [[ $GUEST == a ]] || exit 4
    sleep infinity
}

"$@"
