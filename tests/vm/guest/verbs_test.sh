#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The laws of the seam over real verbs (rxe that talks to itself). Run by tests/vm/run; the argument is the program
# contract_tests.
set -euo pipefail
source "$VM_LIB"

(($# == 1)) || vm_fail "which test program?"
vm_rxe_loopback
RNBD_REQUIRE_RDMA=1 "$1" --gtest_filter='*Verbs*:-VerbsWithoutAdapter*'
