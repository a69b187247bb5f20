#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs every test there is, from a clean clone: installs what is missing, builds (release, ASan and UBSan, TSan), runs
# the tests of this machine, the linters, and the tests in guests. 29 minutes on two cores.
#
#   scripts/test.sh            everything; exits with 0 only if all passed
#   scripts/test.sh --fast     without the guests
#
# Logs are in build/test. With CI=true a test that a guest skips is a failure. One test, one guest, one linter:
# ctest --preset release -R NAME, tests/vm/run_suite NAME, scripts/tidy.sh.
set -euo pipefail
cd "$(dirname "$0")/.."

case ${1:-} in
    '' | --fast) ;;
    -h | --help) sed -n '4,/^set/s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "test.sh: what is '$1'? Try --help." >&2; exit 2 ;;
esac
scripts/install-deps.sh --build --vm --tidy
exec python3 scripts/test_run.py "$@" < /dev/null
