# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Answers in JSON, kept as they come and held against docs/schema in the end: what checks them takes two seconds to start
# here. To be sourced behind lib.sh.

answers=$RESULTS/answers
mkdir -p "$answers"

as_promised() { # NAME [lines|empty]: keeps what comes on stdin; check_json tells what the words mean
    local file
    printf -v file '%s/%03d.%s.%s' "$answers" "$(compgen -G "$answers/*" | wc -l)" "$1" "${2:-json}"
    cat > "$file"
}

answers_are_as_promised() {
    "$(dirname "${BASH_SOURCE[0]}")/check_json" "$answers" || vm_fail "that is not what docs/schema promises; all of it: $answers"
}
