#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The demonstration in a guest: soft-RoCE that talks to itself, and nbd.
set -euo pipefail
source "$VM_LIB"
vm_load_modules nbd
vm_rxe_loopback
"$(dirname "$0")/../../../scripts/demo-steps.sh"
