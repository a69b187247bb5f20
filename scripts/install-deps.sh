#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Installs the Debian 12 packages that building and testing need; does nothing, and says nothing, when all are there.
#
#   scripts/install-deps.sh [--build] [--run] [--vm] [--tidy] [--package] [--bench]
#
#   --build    to compile the project and run its unit tests
#   --run      to run the demonstration on this host's own nbd and RDMA device
#   --vm       for the virtual machines of tests/vm (the guests run the host's programs, so theirs are here too)
#   --package  lintian, for scripts/package.sh
#   --tidy     clang-tidy, clang-format and clang with its sanitizer and fuzzer libraries
#   --bench    for scripts/bench.sh, on top of --vm or --run
#
# Without a word: --build --vm.

set -euo pipefail

readonly build=(
    g++ cmake ninja-build pkg-config ccache git ca-certificates python3 dpkg-dev file
    librdmacm-dev libibverbs-dev libnl-3-dev libnl-genl-3-dev liburing-dev
    libboost1.81-dev libspdlog-dev libfmt-dev libcli11-dev nlohmann-json3-dev libtomlplusplus-dev
    prometheus-cpp-dev python3-yaml
    libgtest-dev libgmock-dev libbenchmark-dev valgrind
)
readonly run=(ibverbs-providers iproute2 kmod mount util-linux e2fsprogs fio)
readonly vm=(
    qemu-system-x86 busybox-static cpio kmod python3 util-linux mount iproute2
    ibverbs-providers ibverbs-utils rdmacm-utils
    fio nbd-client qemu-utils
    e2fsprogs xfsprogs dosfstools fdisk parted dmsetup mdadm
    gcc make libelf1 xz-utils # for the kernel's RNBD modules
    tcpdump python3-jsonschema
)
readonly package=(lintian)
readonly bench=(fio nbd-client qemu-utils perftest linux-perf python3-matplotlib)
readonly tidy=(clang-tidy-19 clang-format-19 clang-19 libclang-rt-19-dev)

fail() {
    echo "install-deps: $*" >&2
    exit 1
}

usage() {
    sed -n '4,/^$/s/^# \{0,1\}//p' "$0"
}

is_installed() {
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$1" 2> /dev/null) == installed ]]
}

wanted=()
for word in "$@"; do
    case $word in
        --build) wanted+=("${build[@]}") ;;
        --run) wanted+=("${run[@]}") ;;
        --vm) wanted+=("${vm[@]}") ;;
        --package) wanted+=("${package[@]}") ;;
        --tidy) wanted+=("${tidy[@]}") ;;
        --bench) wanted+=("${bench[@]}") ;;
        -h | --help)
            usage
            exit 0
            ;;
        *) fail "what is $word? See --help." ;;
    esac
done
[[ $# -gt 0 ]] || wanted=("${build[@]}" "${vm[@]}")

missing=()
for each in "${wanted[@]}"; do
    is_installed "$each" || missing+=("$each")
done
[[ ${#missing[@]} -gt 0 ]] || exit 0

as_root=()
if [[ $EUID -ne 0 ]]; then
    command -v sudo > /dev/null || fail "missing: ${missing[*]}. Installing them takes root, and there is no sudo."
    as_root=(sudo)
fi

echo "installing: ${missing[*]}"
apt_get=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300)
# The output is for the case that something goes wrong.
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { "${apt_get[@]}" update && "${apt_get[@]}" install -y --no-install-recommends "${missing[@]}"; } > "$log" 2>&1; then
    tail -n 20 "$log" >&2
    fail "apt-get failed"
fi
