#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Compares this project with the kernel's RNBD, NVMe over fabrics and nbd, in one run: interleaved rounds of fio over
# every peer, medians, CPU time, context switches and system calls. Prints tables; build/bench gets results.json, the
# tables and the plots. Figures of an emulated machine mean something only beside each other.
#
#   scripts/bench.sh [OPTION…]                 in a guest with two CPUs and soft-RoCE
#   scripts/bench.sh --guests 2 [OPTION…]      in two, joined by a cable
#   scripts/bench.sh --instructions [OPTION…]  in one with one CPU, of which an instruction takes a nanosecond: what an
#                                              I/O costs, nearly the same each time
#   scripts/bench.sh --native [OPTION…]        on this machine's own RDMA device; as root
#   scripts/bench.sh --scale [OPTION…]         in guests: this project alone, with more and more of everything
#
#   --rounds N           default 5; with --scale 3 (1 of what it counts by instructions), with --instructions 1
#   --seconds S          of each measurement, default 2
#   --peers PATTERNS     for example 'local,ours-*,kernel-*'; all if left out
#   --workloads PATTERNS for example '4k-*-q32-j1,128k-*'; all if left out
#   --profile PATTERNS   of PEER.WORKLOAD, for example 'ours-*.4k-*-j1': at the end, where the CPUs are; by stage in the
#                        tables, by function in build/bench/PEER.WORKLOAD.txt and, of a server's machine, ….server.txt
#   --output DIR         instead of build/bench
#   --docs               puts the tables and plots into docs/performance.md, which has no place for --instructions
#   --disk DEVICE        with --native: what the server exports instead of a RAM disk. IT IS OVERWRITTEN
#   --address IPV4       with --native: of the RDMA device, instead of the first one's
#   --list               what peers and workloads there are
#
# All of it takes an hour, --scale half of one; --rounds 1 --workloads '4k-*-j1' two minutes.
set -euo pipefail
command=scripts/bench.sh
for word in "$@"; do
    [[ $word =~ ^[A-Za-z0-9_./,=:-]+$ ]] || word=${word@Q}
    command+=" $word"
done
cd "$(dirname "$0")/.."
bench=tests/bench

native=false scale=false docs=false instructions=false guests=1 output=build/bench disk='' address='' rounds='' passed=()
seconds=2 profile=0
while (($#)); do
    case $1 in
        --native) native=true ;;
        --scale) scale=true ;;
        --instructions) instructions=true ;;
        --docs) docs=true ;;
        --guests) guests=$2; shift ;;
        --output) output=$2; shift ;;
        --disk) disk=$2; shift ;;
        --address) address=$2; shift ;;
        --rounds) rounds=$2; shift ;;
        --seconds) seconds=$2; passed+=("$1" "$2"); shift ;;
        --profile) profile=1; passed+=("$1" "$2"); shift ;;
        --peers | --workloads) passed+=("$1" "$2"); shift ;;
        --list) passed+=("$1") ;;
        -h | --help) sed -n '4,/^set/s/^# \{0,1\}//p' "$0"; exit 0 ;;
        *) echo "bench.sh: what is '$1'? Try --help." >&2; exit 2 ;;
    esac
    shift
done
if $instructions && { $docs || $native || $scale || ((guests != 1)); }; then
    echo "bench.sh: --instructions does not go together with --docs, --native, --scale or --guests" >&2
    exit 2
fi
if $native && { $docs || $scale || ((guests != 1)); } || { $scale && ((guests != 1)); }; then
    echo "bench.sh: --native does not go together with --docs, --scale or --guests, nor --scale with --guests" >&2
    exit 2
fi
if [[ -z $rounds ]]; then
    if $scale; then rounds=3; elif $instructions; then rounds=1; else rounds=5; fi
fi
passed+=(--rounds "$rounds")
export RNBD_BIN=$PWD/build/release/bin RNBD_BENCH_COMMAND=$command

if [[ " ${passed[*]} " == *" --list "* ]]; then
    exec "$bench/run" --list --address - --disk - --scratch - --output -
fi

rdma_address() { # of the first RDMA device that has a network interface with an address
    local netdev
    for netdev in $(rdma link show | sed -n 's/.*netdev \([^ ]*\).*/\1/p'); do
        ip -o -4 address show dev "$netdev" | sed -n 's/.*inet \([0-9.]*\).*/\1/p'
    done | head -n 1
}

native() {
    [[ -n $disk ]] || { modprobe brd rd_nr=1 rd_size=131072 && disk=/dev/ram0; }
    [[ -n $address ]] || address=$(rdma_address)
    [[ -n $address ]] || { echo "bench.sh: no RDMA device with an IPv4 address" >&2; exit 1; }
    "$bench/run" --address "$address" --disk "$disk" --scratch "$output/scratch" --output "$output/results.json" "${passed[@]}"
}

by_instructions=(--accel icount --cpus 1)

in_guests() {
    local machine=() code=0
    ! $instructions || machine=("${by_instructions[@]}")
    # nvmet_tcp of Linux 6.1 receives 1 MiB into pages that lie side by side, which the check takes for an overflow.
    tests/vm/run --guests "$guests" "${machine[@]}" --kernel-rnbd --memory 3072 --timeout "$(patience)" \
        --kernel-append hardened_usercopy=off --results "$output/guest" tests/vm/guest/bench.sh "${passed[@]}" || code=$?
    # What was measured before something failed is kept.
    find "$output/guest/a" \( -name results.json -o -name '*.*.txt' \) -exec cp -t "$output" {} +
    return "$code"
}

patience() { # in seconds, for all peers and workloads
    awk "BEGIN { print int(2400 + $rounds * 180 * ($seconds + 8) + ($profile ? 7200 : 0)) }"
}

scale_in_guest() { # NAME ARGUMENT…: tests/vm/run with them; the results are in $output/NAME.json
    tests/vm/run --timeout $((1200 + rounds * 600)) --memory 4096 --results "$output/guest" "${@:2}"
    cp "$output/guest/a/scale.json" "$output/$1.json"
}

scale() {
    local script=tests/vm/guest/scale.sh much=devices,busy-devices,sessions,busy-sessions,busy-clients,paths
    # Instructions are the same each time, or nearly: one round will do.
    scale_in_guest scale-much "${by_instructions[@]}" "$script" "${passed[@]}" --series "$much" --rounds 1 \
        --machine "a guest with a CPU of which an instruction takes a nanosecond"
    scale_in_guest scale-queues --cpus 8 "$script" --series queues,busy-queues "${passed[@]}"
    scale_in_guest scale-mapping "$script" --series mapping "${passed[@]}"
    scale_in_guest scale-policies --guests 2 --links 2 "$script" --slow eth1 "${passed[@]}"
}

groups=(--build --bench)
$native || groups+=(--vm)
scripts/install-deps.sh "${groups[@]}"
mkdir -p "$output"
rm -f "$output"/{results,scale-*}.json "$output"/bench-*.svg "$output"/*.*.txt "$output/tables.md"  # of another run
if ! { cmake --preset release && cmake --build --preset release --target rnbd-server rnbd-client nbd_null; } > "$output/build.log" 2>&1; then
    tail -n 30 "$output/build.log"
    exit 1
fi
read -r load _ < /proc/loadavg
if awk "BEGIN { exit !($load > 1) }"; then
    echo "bench.sh: this machine is busy (load $load); peers with threads that hand over to each other will look slow" >&2
fi
if $scale; then
    scale
    results=("$output"/scale-{much,queues,mapping,policies}.json)
else
    if $native; then native; else in_guests; fi
    results=("$output/results.json")
fi
"$bench/report" "${results[@]}" | tee "$output/tables.md"
# The one that Debian's matplotlib is for.
/usr/bin/python3 "$bench/plot" "${results[@]}" "$output"
if $docs; then
    "$bench/report" --into docs/performance.md "$command" "${results[@]}"
    if $scale; then
        plots=(scale)
    elif ((guests == 2)); then
        plots=(two-throughput two-cpu two-latency)
    else
        plots=(throughput cpu latency)
    fi
    for plot in "${plots[@]}"; do
        # There is none relative to a peer that was left out.
        cp "$output/bench-$plot.svg" docs/ || echo "bench.sh: docs/bench-$plot.svg is of an earlier run" >&2
    done
fi
