#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# What daemons that have nothing to do take of a processor, while a device is mapped and nobody uses it: less than one
# part in a hundred each. Counted on a machine whose time passes by instructions, one a nanosecond, so that it is the
# same however quick the host is; processors of this century execute more than that. Run with --accel icount --cpus 1.
#
#   idle.sh [SECONDS]     to look for (20)
set -euo pipefail
source "$VM_LIB"
source "$(dirname "$0")/pair.sh"

seconds=${1:-20}

spent() { # PID: of its threads, in ns
    awk '{ sum += $1 } END { print sum }' "/proc/$1/task"/*/schedstat
}
is_quiet() { # PID: it takes less than 10 ms in a second: what follows a map is over
    local before
    before=$(spent "$1")
    sleep 1
    (($(spent "$1") - before < 10000000))
}
busy() { # of the machine, in ns; io_uring has Linux call it iowait when somebody waits for it
    awk -v uptime="$(< /proc/uptime)" -v ticks="$(getconf CLK_TCK)" \
        '/^cpu / { printf "%.0f\n", (uptime - ($5 + $6) / ticks) * 1e9 }' /proc/stat
}
percent() { # NS: of the time that was looked
    awk -v ns="$1" -v seconds="$seconds" 'BEGIN { printf "%.2f", ns / seconds / 1e7 }'
}

vm_load_modules brd,rd_nr=1,rd_size=65536
vm_step "the machine by itself"
before=$(busy)
sleep "$seconds"
echo "machine: $(percent $(($(busy) - before))) %"

pair_start --dev-search-path /dev
node=$(pair_map server=ip:10.9.0.1 device_path=ram0)
dd if="$node" of=/dev/null bs=64k count=16 iflag=direct status=none
vm_wait_until 30 is_quiet "$client_pid"
vm_wait_until 30 is_quiet "$server_pid"

vm_step "with a device mapped, unused"
before=$(busy) client=$(spent "$client_pid") server=$(spent "$server_pid")
sleep "$seconds"
client=$(($(spent "$client_pid") - client)) server=$(($(spent "$server_pid") - server))
echo "machine: $(percent $(($(busy) - before))) %, client: $(percent $client) %, server: $(percent $server) %"
for each in $client $server; do
    ((each * 100 < seconds * 1000000000)) || vm_fail "that is more than one part in a hundred"
done
rnbd-client unmap "$node"
pair_stop
vm_step "done"
