#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Many devices mapped at once, in a session that is lost three times meanwhile: every one of them is there in the
# end, answers, and is open at the server once.
set -euo pipefail
source "$VM_LIB"
source "$(dirname "$0")/pair.sh"

devices=40
vm_load_modules brd,rd_nr=$((devices + 1)),rd_size=4096
pair_start --dev-search-path /dev
first=$(rnbd-client map sessname=blya path=ip:10.9.0.1 device_path=ram0)

nodes=$(mktemp -d)
vm_step "mapping, while the server ends the session"
mappers=()
for i in $(seq $devices); do
    rnbd-client map sessname=blya device_path=ram"$i" > "$nodes/$i" &
    mappers+=($!)
done
have_mapped() { [[ $(find "$nodes" -type f -size +0 | wc -l) -ge $1 ]]; }
for many in 1 10 20; do
    vm_wait_until 60 have_mapped "$many"
    rnbd-server session close blya
    dd if="$first" of=/dev/null bs=4k count=1 iflag=direct status=none  # so it is back
done
for mapper in "${mappers[@]}"; do wait "$mapper"; done

vm_step "each device answers"
mapped=$(sort -u "$nodes"/*)
[[ $(wc -w <<< "$mapped") == "$devices" ]] || vm_fail "mapped: $mapped"
for node in $mapped; do
    dd if="$node" of=/dev/null bs=4k count=1 iflag=direct status=none
done
grep -c 'lost while.*mapped anew' "$RESULTS/client.log" || vm_fail "no mapping was lost on its way"

vm_step "unmapped, none is left at the server"
for node in $mapped; do rnbd-client unmap "$node"; done
only_first() { [[ $(rnbd-server list | wc -l) == 2 ]]; } # below the heading
vm_wait_until 10 only_first || vm_fail "open at the server: $(rnbd-server list)"
rnbd-client unmap "$first"
pair_stop
vm_step "done"
