# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# A client and a server that are each ours or the kernel's, with the same words for both: to be sourced behind lib.sh
# and pair.sh, after setting client_side and server_side to "ours" or "kernel". Needs tests/vm/run --kernel-rnbd.

client_ctl=/sys/class/rnbd-client/ctl
server_ctl=/sys/class/rnbd-server/ctl

side_load() { # MODULE[,PARAMETER=VALUE…]…: the kernel's, in this order
    local each words
    vm_load_modules rdma_cm libcrc32c
    for each in "$@"; do
        read -ra words <<< "${each//,/ }"
        [[ -e /sys/module/${words[0]//-/_} ]] || insmod "$RNBD_KERNEL_MODULES/${words[0]}.ko" "${words[@]:1}"
    done
}

# --- Server ------------------------------------------------------------------------------------------------------------

server_start() { # yes|no [RTRS-PARAMETER=VALUE…]: always_invalidate, or not
    local letter=N
    if [[ $server_side == ours ]]; then
        pair_start_server --always-invalidate "$1"
    else
        [[ $1 == no ]] || letter=Y
        side_load rtrs-core "rtrs-server,always_invalidate=$letter" rnbd-server
    fi
}

server_stop() { # [SIGNAL=TERM]: for ours; the kernel's is unloaded
    if [[ $server_side == kernel ]]; then
        rmmod rnbd-server rtrs-server
    elif [[ ${1:-TERM} == TERM ]]; then
        pair_end server "$server_pid"
        server_pid=
    else
        kill "-$1" "$server_pid"
        wait "$server_pid" 2> /dev/null || true
        server_pid=
    fi
}

server_devices() { # prints DISK SESSION MODE of all that is open
    local each
    if [[ $server_side == ours ]]; then
        rnbd-server list --noheaders | awk '{ print $1, $2, $5 }'
    else
        for each in "$server_ctl"/devices/*/sessions/*/; do
            [[ -e $each ]] || continue
            each=${each%/}
            echo "/dev/$(cut -d/ -f7 <<< "$each") ${each##*/} $(< "$each/access_mode")"
        done
    fi
}

server_sessions() { # prints how many ours has, by the log of its present life
    awk '/ serving / { up = 0 } / is up on / { ++up } / is gone$/ { --up } END { print up + 0 }' "$RESULTS/server.log"
}

server_has_nothing() { # no session, no device
    if [[ $server_side == ours ]]; then
        [[ -z $(rnbd-server list --noheaders) && $(server_sessions) == 0 ]]
    else
        ! compgen -G "$server_ctl/devices/*" && ! compgen -G '/sys/class/rtrs-server/*'
    fi > /dev/null
}

# --- Client ------------------------------------------------------------------------------------------------------------

client_start() {
    if [[ $client_side == ours ]]; then
        vm_load_modules nbd
        pair_start_client
    else
        side_load rtrs-core rtrs-client rnbd-client
    fi
}

client_stop() {
    if [[ $client_side == kernel ]]; then
        rmmod rnbd-client rtrs-client
    else
        pair_end client "$client_pid"
        client_pid=
    fi
}

client_map() { # SESSION DEVICE [WORD…]: prints the node; server_address is where to
    local words="sessname=$1 path=ip:${server_address:-10.9.0.1} device_path=$2 ${*:3}"
    if [[ $client_side == ours ]]; then
        # shellcheck disable=SC2086 # the words are wanted
        rnbd-client map $words
        return
    fi
    (echo "$words" > "$client_ctl/map_device") || return
    echo "/dev/$(basename "$(readlink "$client_ctl/devices/${2//\//!}@$1")")"
}

client_unmap() { # NODE
    if [[ $client_side == ours ]]; then
        rnbd-client unmap "$1"
    else
        (echo normal > "/sys/block/${1#/dev/}/rnbd/unmap_device")
    fi
}

client_unmap_closed() { # NODE, whose server is away
    if [[ $client_side == ours ]]; then
        rnbd-client unmap "$1" --force
    else
        client_unmap "$1"
    fi
}

client_reconnect() { # SESSION [ADDRESS]: not to wait for the kernel's 30 s between two attempts; ours finds out by itself
    [[ $client_side == ours ]] || kernel_reconnect "$@"
}

kernel_reconnect() { # SESSION [ADDRESS]
    local paths=(/sys/class/rtrs-client/"$1"/paths/*"${2:-}")
    vm_wait_until 60 eval "(echo 1 > '${paths[0]}/reconnect') 2> /dev/null"
}

client_state() { # NODE: open or closed, in the kernel's words
    if [[ $client_side == ours ]]; then
        rnbd-client list --noheaders | awk -v node="$1" '$1 == node { print $4 == "queueing" ? "closed" : $4 }'
    else
        cat "/sys/block/${1#/dev/}/rnbd/state"
    fi
}

client_add_path() { # SESSION ADDRESS: one more
    if [[ $client_side == ours ]]; then
        rnbd-client path add "$1" "ip:$2"
    else
        echo "ip:$2" > "/sys/class/rtrs-client/$1/add_path"
    fi
}

client_remove_path() { # SESSION ADDRESS
    if [[ $client_side == ours ]]; then
        rnbd-client path remove "$1" "ip:$2"
    else
        echo 1 > "$(kernel_path "$1" "$2")/remove_path"
    fi
}

client_path_is_up() { # SESSION ADDRESS
    if [[ $client_side == ours ]]; then
        rnbd-client path list --noheaders | awk -v want="$1 ip:$2 connected" '$1 " " $2 " " $3 == want { found = 1 } END { exit !found }'
    else
        [[ $(< "$(kernel_path "$1" "$2")/state") == connected ]]
    fi
}

client_path_is_lost() {
    ! client_path_is_up "$@"
}

kernel_path() { # SESSION ADDRESS: its directory
    compgen -G "/sys/class/rtrs-client/$1/paths/*@ip:$2"
}

client_state_is() { # NODE STATE
    [[ $(client_state "$1") == "$2" ]]
}

client_refused() { # ERRNO COMMAND…: it fails with this errno, in the words of the side
    local want=$1 status=0 said
    shift
    said=$("$@" 2>&1 > /dev/null) || status=$?
    ((status != 0)) || vm_fail "$* should not have worked"
    if [[ $client_side == kernel ]]; then
        case $want in
            ENOENT) want='No such file or directory' ;;
            EEXIST) want='File exists' ;;
            EPERM) want='Operation not permitted' ;;
            EBUSY) want='Device or resource busy' ;;
            EINVAL) want='Invalid argument' ;;
        esac
    fi
    [[ $said == *"$want"* ]] || vm_fail "$*: not $want, but: $said"
}

# --- What a disk was asked to do -----------------------------------------------------------------------------------------

trace_start() { # DISK: note the requests that come to it from now on, between trace_begin and trace_end
    # Once a guest: switching an event on and off patches the kernel's code each time, and under emulation that has
    # been seen to stop a machine for good.
    local events=/sys/kernel/tracing major minor
    read -r major minor <<< "$(stat -c '0x%t 0x%T' "$1")"
    mount -t tracefs tracefs "$events"
    echo 0 > "$events/tracing_on"
    echo "dev == $((major << 20 | minor))" > "$events/events/block/block_bio_queue/filter"
    echo 1 > "$events/events/block/block_bio_queue/enable"
}

trace_begin() {
    : > /sys/kernel/tracing/trace
    echo 1 > /sys/kernel/tracing/tracing_on
}

trace_end() { # prints a line of flags for each request: F before the letter: flush first; behind it: FUA; D: discard
    echo 0 > /sys/kernel/tracing/tracing_on
    awk '/block_bio_queue:/ { for (i = 1; i < NF; i++) if ($i == "block_bio_queue:") print $(i + 2) }' /sys/kernel/tracing/trace
}
