#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Who wakes the threads that receive our replies, nbd's, while there are writes: by hand, for docs/performance.md. Prints
# the writes of a second, and its wake-ups by the kernel function behind them. Run by tests/vm/run.
set -euo pipefail
source "$VM_LIB"
source "$(dirname "$0")/pair.sh"
tracing=/sys/kernel/tracing
event=$tracing/events/sched/sched_waking

vm_load_modules brd,rd_nr=1,rd_size=131072
pair_start --always-invalidate no
node=$(pair_map server=ip:10.9.0.1 device_path=/dev/ram0)
mount -t tracefs tracefs "$tracing"
fio --name=load --filename="$node" --direct=1 --ioengine=libaio --group_reporting --rw=randwrite --bs=4k --iodepth=32 \
    --numjobs=4 --time_based --runtime=8 --output-format=json --output="$RESULTS/load.json" &
load=$!
written() {
    awk '{ print $5 }' "/sys/block/${node#/dev/}/stat"
}
vm_wait_until 30 eval '(($(written) > 5000))'
echo 65536 > "$tracing/buffer_size_kb"
# Workers of high priority and of no CPU are called kworker/uN, N behind the CPUs.
before=$(written)
echo 'stacktrace if comm ~ "kworker/u*"' > "$event/trigger"
sleep 1 # what is measured
echo '!stacktrace' > "$event/trigger"
vm_step "$(($(written) - before)) writes"
python3 - "$tracing/trace" << 'EOF'
import collections, re, sys
counts = collections.Counter()
for stack in open(sys.argv[1], errors="replace").read().split("<stack trace>")[1:]:
    for known in ("unix_write_space", "sock_def_readable"):
        if re.search(rf"=> {known}\b", stack):
            counts[known] += 1
            break
    else:
        counts["others"] += 1
for name, count in counts.most_common():
    print(f"{count:8} {name}")
EOF
wait "$load"
rnbd-client unmap "$node"
pair_stop
