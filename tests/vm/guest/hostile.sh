#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Peers that break the rules, over real verbs: the tests that the network in memory goes through too. Run by
# tests/vm/run; the argument is the program hostile_tests, then what GoogleTest takes.
set -euo pipefail
source "$VM_LIB"

(($# >= 1)) || vm_fail "which test program?"
vm_rxe_loopback
for host in 2 3 4; do # one address for each host of a test
    ip address add "10.9.0.$host/24" dev dm0
    vm_wait_until 10 vm_has_gid rxe0 "$(printf '0000:0000:0000:0000:0000:ffff:0a09:%02x%02x' 0 "$host")"
done
# Not grep -q, which would end before the program has said everything, and with it the program.
"$1" --gtest_list_tests --gtest_filter='*/Verbs*' | grep HostileClient > /dev/null || vm_fail "no adapter was found"
exec "$1" --gtest_filter='*/Verbs*' "${@:2}"
