#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Makes the Debian packages rnbd-client and rnbd-server: build/release/packages/*.deb. Installs and builds what is
# missing, and has lintian look at them.
set -euo pipefail
cd "$(dirname "$0")/.."

case ${1:-} in
    '') ;;
    -h | --help) sed -n '4,/^set/s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "package.sh: what is '$1'? Try --help." >&2; exit 2 ;;
esac
scripts/install-deps.sh --build --package
echo "building …"
mkdir -p build
if ! { cmake --preset release &&
    cmake --build --preset release --target rnbd-client rnbd-server reference changelog &&
    rm -rf build/release/packages && (cd build/release && cpack); } > build/package.log 2>&1; then
    tail -n 30 build/package.log
    echo "making the packages failed; all it said is in build/package.log" >&2
    exit 1
fi
ls -1 build/release/packages/*.deb
lintian --fail-on error --tag-display-limit 0 build/release/packages/*.deb
