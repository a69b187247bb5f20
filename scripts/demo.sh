#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Shows the main job, step by step: a disk of a server becomes /dev/nbdX of a client over RDMA, takes a file system and
# survives verified I/O. Installs and builds what is missing.
#
#   scripts/demo.sh            in a throwaway guest: needs no RDMA hardware or modules, touches nothing on this host
#   scripts/demo.sh --native   on this host's own nbd and RDMA device, with a file as the server's disk
set -euo pipefail
cd "$(dirname "$0")/.."

native=false
case ${1:-} in
    '') ;;
    --native) native=true ;;
    -h | --help) sed -n '4,9s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "demo.sh: what is '$1'? Try --help." >&2; exit 2 ;;
esac

if $native; then scripts/install-deps.sh --build --run; else scripts/install-deps.sh; fi
echo "building …"
mkdir -p build
if ! { cmake --preset release && cmake --build --preset release --target rnbd-server rnbd-client; } > build/demo-build.log 2>&1; then
    tail -n 30 build/demo-build.log
    echo "the build failed; all it said is in build/demo-build.log" >&2
    exit 1
fi

export RNBD_BIN=$PWD/build/release/bin
[[ ! -t 1 || -n ${NO_COLOR:-} ]] || export RNBD_COLOR=1
if $native; then
    exec scripts/demo-steps.sh
fi
echo "starting a guest (software emulation: everything is many times slower than on real machines) …"
exec tests/vm/run --timeout 420 --results build/vm/demo tests/vm/guest/demo.sh
