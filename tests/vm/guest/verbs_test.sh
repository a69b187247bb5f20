#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The laws of the seam over real verbs (rxe that talks to itself). Run by tests/vm/run; the argument is the program
# contract_tests.
set -euo pipefail
source "$VM_LIB"

(($# == 1)) || vm_fail "which test program?"
vm_rxe_loopback
for law in AWindowOpensItsPartAndNoMore BeforeAWindowNothingIsRefused; do
    echo "not run: $law over verbs: rxe checks the key of a memory window, but not its bounds"
done
RNBD_REQUIRE_RDMA=1 "$1" --gtest_filter='*Verbs*:-*AWindowOpensItsPartAndNoMore*:*BeforeAWindowNothingIsRefused*:VerbsWithoutAdapter*'
