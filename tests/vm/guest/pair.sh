# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# A server and a client daemon for guest scripts, to be sourced behind lib.sh. Programs come from RNBD_BIN, those that only
# ask a daemon from RNBD_COMMANDS if that is set: of a build with sanitizers they take half a second to start. Logs go to
# $RESULTS; pair_stop ends both and fails if either did not end well, leaked, or logged what it should not have.

PATH="${RNBD_COMMANDS:-$RNBD_BIN}:$PATH"
export ASAN_OPTIONS="detect_leaks=1:abort_on_error=0:exitcode=99:log_path=$RESULTS/sanitizer"
export TSAN_OPTIONS="exitcode=99:log_path=$RESULTS/sanitizer"
export UBSAN_OPTIONS="print_stacktrace=1"
server_pid= client_pid=

pair_post_mortem() { # what both say and logged last, where their threads are, what the adapters counted, if the script fails
    local status=$? pid task log
    ((status != 0)) || return 0
    {
        for verb in list "path list -o +failed_attempts" stats; do timeout 10 rnbd-client ${verb} < /dev/null; done
        for verb in list "session list" stats; do timeout 10 rnbd-server ${verb} < /dev/null; done
        for pid in $(pgrep -x 'rnbd-client|rnbd-server'); do
            for task in "/proc/$pid/task"/*; do
                echo "$task $(< "$task/comm"): $(< "$task/wchan") $(head -n 6 "$task/stack" | xargs)"
            done
        done
        grep -H . /sys/block/nbd*/inflight /sys/class/infiniband/*/ports/1/hw_counters/*
        ss -xp
        echo w > /proc/sysrq-trigger
    } > "$RESULTS/post-mortem.log" 2>&1 || true
    for log in client server; do
        [[ ! -s $RESULTS/$log.log ]] || echo "$log: $(tail -n 3 "$RESULTS/$log.log")" >&2
    done
    return "$status"
}
trap pair_post_mortem EXIT

pair_start_server() { # OPTION…: rnbd-server daemon, up when this returns
    "$RNBD_BIN/rnbd-server" daemon "$@" 2>> "$RESULTS/server.log" &
    server_pid=$!
    vm_wait_until 60 rnbd-server list > /dev/null 2> "$RESULTS/wait.log" || vm_fail "no server: $(tail -n 3 "$RESULTS/server.log")"
}

pair_start_client() { # OPTION…: rnbd-client daemon, up when this returns
    "$RNBD_BIN/rnbd-client" daemon "$@" 2>> "$RESULTS/client.log" &
    client_pid=$!
    vm_wait_until 60 rnbd-client list > /dev/null 2> "$RESULTS/wait.log" || vm_fail "no client: $(tail -n 3 "$RESULTS/client.log")"
}

pair_daemon_pid() { # of the client's daemon, if that runs with --supervise
    local pid=
    read -r pid _ < "/proc/$client_pid/task/$client_pid/children" || [[ -n $pid ]] # there is no newline
    echo "$pid"
}

pair_start() { # SERVER-OPTION…: loopback rxe, nbd, both daemons
    vm_load_modules nbd
    vm_rxe_loopback
    pair_start_server "$@"
    pair_start_client
}

pair_is_gone() { # PID
    ! kill -0 "$1" 2> /dev/null
}

pair_end() { # NAME PID: SIGTERM, and a clean end
    local status=0
    kill -TERM "$2"
    vm_wait_until 60 pair_is_gone "$2" || vm_fail "$1 did not end: $(tail -n 5 "$RESULTS/$1.log")"
    wait "$2" || status=$?
    ((status == 0)) || vm_fail "$1 ended with $status: $(tail -n 20 "$RESULTS/$1.log" "$RESULTS"/sanitizer.* 2> /dev/null)"
}

pair_stop() {
    [[ -z $client_pid ]] || pair_end client "$client_pid"
    [[ -z $server_pid ]] || pair_end server "$server_pid"
    client_pid='' server_pid=''
    ! compgen -G "$RESULTS/sanitizer.*" > /dev/null || vm_fail "a sanitizer reported: $(cat "$RESULTS"/sanitizer.*)"
}

pair_no_errors_logged() {
    ! grep -hE ' (error|critical): ' "$RESULTS/server.log" "$RESULTS/client.log" || vm_fail "errors were logged"
}

pair_map() { # WORD…: maps, prints the node
    rnbd-client map "$@"
}

pair_expect() { # STATUS PATTERN COMMAND…: the command exits with STATUS and its stderr matches PATTERN
    local want=$1 pattern=$2 got=0
    shift 2
    "$@" > "$RESULTS/expect.out" 2> "$RESULTS/expect.err" || got=$?
    ((got == want)) || vm_fail "$*: exit $got instead of $want: $(cat "$RESULTS/expect.err")"
    grep -qE -- "$pattern" "$RESULTS/expect.err" || vm_fail "$*: stderr has no '$pattern': $(cat "$RESULTS/expect.err")"
}
