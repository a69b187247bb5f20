#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The client's kernel half on real devices. Run by tests/vm/run; the argument is the program nbd_kernel_test.
set -euo pipefail
source "$VM_LIB"

(($# == 1)) || vm_fail "which test program?"
vm_load_modules nbd
RNBD_REQUIRE_NBD=1 "$1"
