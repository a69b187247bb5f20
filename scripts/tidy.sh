#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Checks the C++ as .clang-format and .clang-tidy want it: all of it for its layout, src and cli for the rest. Says
# nothing but what is wrong.
#
#   scripts/tidy.sh [PATTERN]     only files whose path matches the regular expression
set -euo pipefail
cd "$(dirname "$0")/.."

case ${1:-} in
    -h | --help) sed -n '4,/^set/s/^# \{0,1\}//p' "$0"; exit 0 ;;
esac
pattern=${1:-}

status=0
find src cli tests -name '*.cc' -o -name '*.h' | grep -E -- "$pattern" | xargs -r clang-format-19 --dry-run -Werror || status=1

# All of them are joined, for headers take most of the time; a few by themselves.
join=ON
[[ -z $pattern ]] || join=OFF
cmake -S . -B build/tidy -G Ninja -DCMAKE_CXX_COMPILER=clang++-19 -DRNBD_TESTS=OFF \
    -DCMAKE_UNITY_BUILD=$join -DCMAKE_UNITY_BUILD_BATCH_SIZE=64 > /dev/null
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! run-clang-tidy-19 -j"$(nproc)" -p build/tidy -quiet "${pattern:-.}" > "$log" 2>&1; then
    grep -vE '^\[ *[0-9]+/[0-9]+\]|^[0-9]+ warnings? generated|^clang-tidy|^Running clang-tidy|^$' "$log" || tail "$log"
    status=1
fi
exit $status
