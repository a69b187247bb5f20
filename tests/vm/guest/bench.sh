#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The comparison of scripts/bench.sh in a guest, or in two: soft-RoCE and a RAM disk, then tests/bench/run with the
# arguments. In two guests, b serves and a measures.
set -euo pipefail
source "$VM_LIB"
bench=$(dirname "$0")/../../bench

role=both address=$(vm_address a 0)
vm_load_modules brd,rd_nr=1,rd_size=131072
if ((GUESTS == 1)); then
    vm_rxe_loopback
else
    vm_rxe_links
    address=$(vm_address b 0)
    if [[ $GUEST == a ]]; then role=client; else role=server; fi
fi
# qemu-nbd's and rxe's memory is pinned.
ulimit -l unlimited
exec python3 "$bench/run" --role "$role" --shared /shared --address "$address" --disk /dev/ram0 --scratch /run/bench \
    --output "$RESULTS/results.json" "$@"
