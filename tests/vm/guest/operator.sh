#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# What an operator looks at, with real daemons and real I/O: rnbdtab and apply, list, tree, show, check, stats and top,
# JSON as docs/schema promises it, metrics as docs/monitoring does, and what the log says of slow requests.
set -euo pipefail
source "$VM_LIB"
source "$(dirname "$0")/pair.sh"
source "$(dirname "$0")/answers.sh"

field() { # NAME DEVICE: of `stats --json`
    python3 -c '
import json, sys
print(*(one[sys.argv[1]] for one in json.load(sys.stdin)["devices"] if one["device"] == sys.argv[2]))' "$1" "$2"
}
expect_status() { # STATUS COMMAND…
    local want=$1 got=0
    shift
    "$@" || got=$?
    ((got == want)) || vm_fail "$* ended with $got, not $want"
}

metrics() { # SIDE NAME…: values on a page, which has to be what Prometheus reads and docs/monitoring promises
    local at=127.0.0.1:9871
    [[ $1 == client ]] || at=unix:/run/rnbd/metrics.sock
    "$(dirname "$0")/../../monitoring/check_metrics" "$1" "$at" "${@:2}" | xargs
}

vm_load_modules brd,rd_nr=3,rd_size=65536 dm-mod nbd
vm_rxe_loopback
ip link set lo up
dmsetup create slow --table "0 $((64 << 11)) linear /dev/ram2 0"
dmsetup mknodes
pair_start_server --dev-search-path /dev --metrics-listen unix:/run/rnbd/metrics.sock --slow-io-ms 300
pair_start_client --metrics-listen 127.0.0.1:9871 --slow-io-ms 300
cat > /tmp/rnbdtab << 'END'
first   blya  ram0  path=ip:10.9.0.1,path=ip:[fd09::1]
second  blya  ram1  access_mode=ro
third   blya  ram7  nofail
END
apply() { rnbd-client apply --tab-file /tmp/rnbdtab "$@"; }

vm_step "what rnbdtab names is mapped"
rnbd-client config validate /tmp/rnbdtab
[[ $(apply -n | wc -l) == 3 && -z $(rnbd-client list --noheaders) ]] || vm_fail "a dry run does something: $(apply -n)"
expect_status 11 apply
[[ $(rnbd-client list --noheaders | wc -l) == 2 ]] || vm_fail "not two: $(rnbd-client list)"
expect_status 4 apply
sed -i /ram7/d /tmp/rnbdtab
[[ -z $(apply) ]] || vm_fail "nothing was left to do"
node=$(rnbd-client map --tab first --tab-file /tmp/rnbdtab)

vm_step "what it says while it works"
fio --name=load --filename="$node" --direct=1 --ioengine=libaio --iodepth=8 --size=16M --rw=randrw --bs=4k --time_based \
    --runtime=600 --output="$RESULTS/fio.log" &
fio_pid=$!
busy() { (($(rnbd-client stats --json | field reads "$node") > 500)); }
vm_wait_until 60 busy
rnbd-client list
rnbd-client tree
rnbd-client stats
rnbd-server stats
rnbd-client top -n 2
rnbd-server top -n 1
rnbd-client list --json | as_promised client-list
rnbd-server list --json | as_promised server-list
rnbd-client path list --json | as_promised path-list
rnbd-server session list --json | as_promised session-list
rnbd-client stats --json | as_promised stats
rnbd-server stats --json | as_promised stats
expect_status 4 rnbd-client show nobody --json > /tmp/error 2> "$RESULTS/show.log"
as_promised error < /tmp/error
rnbd-client show "$node" | grep -q '^state: open$' || vm_fail "$(rnbd-client show "$node")"
expect_status 0 rnbd-client check
kill -INT "$fio_pid"
wait "$fio_pid" || true

vm_step "the counts are right"
before=$(rnbd-client stats --json | field written_bytes "$node")
disk_before=$(rnbd-server stats --json | field written_bytes /dev/ram0)
dd if=/dev/zero of="$node" bs=64k count=64 oflag=direct conv=fsync status=none
(($(rnbd-client stats --json | field written_bytes "$node") - before == 4 << 20)) || vm_fail "the client counts otherwise"
(($(rnbd-server stats --json | field written_bytes /dev/ram0) - disk_before == 4 << 20)) || vm_fail "the server counts otherwise"
(($(rnbd-client stats --json | field flushes "$node") > 0)) || vm_fail "no flush is counted"

vm_step "what was counted before a reset is not shown, and not lost"
reads=$(rnbd-client stats --json | field reads "$node")
rnbd-client stats --reset
rnbd-server stats --reset blya
dd if="$node" of=/dev/null bs=4k count=1 iflag=direct status=none
(($(rnbd-client stats "$node" -o reads --noheaders) < reads)) || vm_fail "it is still shown: $(rnbd-client stats)"
(($(rnbd-client stats --json | field reads "$node") > reads)) || vm_fail "it is lost: $(rnbd-client stats --json)"
rnbd-client stats
rnbd-server stats
rnbd-client path list
rnbd-client stats --json | as_promised stats
rnbd-server stats --json | as_promised stats
rnbd-client path list --json | as_promised path-list
rnbd-client list --json | as_promised client-list
expect_status 4 rnbd-client stats --reset nobody

vm_step "what Prometheus gets is the same"
writes=$(rnbd-client stats --json | field writes "$node")
got=$(metrics client "rnbd_client_device_operations_total{device=\"$node\",operation=\"write\"}" \
    'rnbd_client_path_state{state="connected"}' 'rnbd_client_device_state{state="open"}')
[[ $got == "$writes 2 2" ]] || vm_fail "the client says $got, not $writes 2 2"
writes=$(rnbd-server stats --json | field writes /dev/ram0)
got=$(metrics server 'rnbd_server_device_operations_total{device="/dev/ram0",operation="write"}' \
    'rnbd_server_session_pinned_bytes{session="blya"}' 'rnbd_server_path_state{state="connected"}')
[[ $got == "$writes $((64 << 20)) 2" ]] || vm_fail "the server says $got, not $writes $((64 << 20)) 2"

vm_step "a stage takes no longer than what it is in"
rnbd-client stats --json > /tmp/client.json
rnbd-server stats --json > /tmp/server.json
python3 - "$node" << 'END'
import json, sys
def sums(side, device, *stages):
    entry = next(one for one in json.load(open(f"/tmp/{side}.json"))["devices"] if one["device"] == device)
    return [sum(kind["sum_ns"] for kind in entry["stages"][stage].values()) for stage in stages], entry
(queue, wire), entry = sums("client", sys.argv[1], "queue", "wire")
(server, disk), _ = sums("server", "/dev/ram0", "server", "disk")
total = sum(entry[f"{kind}_latency"]["sum_ns"] for kind in ("read", "write", "other"))
print(f"of {total / 1e6:.1f} ms: queue {queue / 1e6:.1f}, wire {wire / 1e6:.1f}, server {server / 1e6:.1f}, disk {disk / 1e6:.1f}")
assert queue + wire == total and wire > server >= disk > 0
END

vm_step "a slow disk is told of by both, and where the time went"
slow=$(rnbd-client map sessname=blya device_path=mapper/slow)
dmsetup suspend --noflush --nolockfs slow
begun=${EPOCHREALTIME/./}
dd if="$slow" of=/dev/null bs=4k count=1 iflag=direct status=none &
dd_pid=$!
half_a_second() { ((${EPOCHREALTIME/./} - begun > 500000)); }
vm_wait_until 5 half_a_second
waits() { (($(metrics server 'rnbd_server_device_in_flight{mapping_path="mapper/slow"}') > 0)); }
vm_wait_until 20 waits
dmsetup resume slow
wait "$dd_pid"
told() { grep -E "slow I/O: device=$1 .*what=read offset=0 length=4096 total_ms=[0-9.]+ $2" "$RESULTS/$3.log"; }
vm_wait_until 10 told "$slow session=blya mapping_path=mapper/slow" \
    'queue_ms=[0-9]{1,2}\.[0-9] wire_ms=[0-9]{3,}\.[0-9] path=ip:[^ ]+ error=0' client
vm_wait_until 10 told '/dev/[^ ]+ session=blya' 'disk_ms=[0-9]{3,}\.[0-9] error=0' server
rnbd-client unmap "$slow"

vm_step "a path is missing, then all are"
rnbd-client path disconnect blya 'ip:[fd09::1]'
expect_status 1 rnbd-client check "$node"
rnbd-client path disconnect blya ip:10.9.0.1 --force
expect_status 2 rnbd-client check
rnbd-client tree
rnbd-client path reconnect blya ip:10.9.0.1
rnbd-client path reconnect blya 'ip:[fd09::1]'
well() { rnbd-client check > "$RESULTS/check.log"; }
vm_wait_until 20 well
expect_status 3 rnbd-client check /dev/nbd9

vm_step "a session that the server closes comes back"
rnbd-server session list
reconnects() { rnbd-client path list --json | grep -o '"reconnects": [0-9]*' | xargs; }
were=$(reconnects)
rnbd-server session close blya
came_back() { [[ $(reconnects) != "$were" ]] && well; }
vm_wait_until 20 came_back
expect_status 4 rnbd-server session close nobody

vm_step "who follows the events misses none of it"
rnbd-client events --json > "$RESULTS/client-events.json" &
client_follower=$!
rnbd-server events --json > "$RESULTS/server-events.json" &
server_follower=$!
follows() { [[ -s $RESULTS/client-events.json && -s $RESULTS/server-events.json ]]; }
vm_wait_until 20 follows
rnbd-client events --now
rnbd-server events --now
rnbd-client path drain blya 'ip:[fd09::1]'
rnbd-client path remove blya 'ip:[fd09::1]'
rnbd-client path add blya 'ip:[fd09::1]'
other=$(rnbd-client map sessname=blya device_path=ram1 2> "$RESULTS/map.log") && vm_fail "mapped twice: $other"
extra=$(rnbd-client map sessname=extra path=ip:10.9.0.1 device_path=ram1 access_mode=ro)
rnbd-client unmap "$extra"
told() { # FILE PATTERN…: these lines, in this order
    python3 - "$@" << 'END'
import re, sys
lines = iter(open(sys.argv[1]))
for pattern in sys.argv[2:]:
    if not any(re.search(pattern, line) for line in lines):
        sys.exit(f"{sys.argv[1]}: nothing like {pattern} where it should be")
END
}
client_told() {
    told "$RESULTS/client-events.json" '"snapshot".*/dev/nbd' '"path".*fd09.*draining' '"path".*fd09.*disconnected' \
        '"path".*fd09.*removed' '"path".*fd09.*connected' "\"device\".*$extra.*open" "\"device\".*$extra.*unmapped" 2> "$RESULTS/told.log"
}
server_told() {
    told "$RESULTS/server-events.json" '"snapshot"' '"path".*fd09.*lost' '"path".*fd09.*connected' '"session".*extra.*up' \
        '"device".*ram1.*extra.*open' '"device".*ram1.*extra.*closed' '"session".*extra.*gone' 2> "$RESULTS/told.log"
}
vm_wait_until 20 client_told || vm_fail "$(cat "$RESULTS/told.log" "$RESULTS/client-events.json")"
vm_wait_until 20 server_told || vm_fail "$(cat "$RESULTS/told.log" "$RESULTS/server-events.json")"
kill "$client_follower" "$server_follower"
as_promised event lines < "$RESULTS/client-events.json"
as_promised event lines < "$RESULTS/server-events.json"

vm_step "sessions, recovery, discovery, what is wrong with the host"
rnbd-client session list
rnbd-client session list --json | as_promised client-session-list
rnbd-client list -o +last_error,-io,server_size
rnbd-client discover 'path=ip:10.9.0.1' 'path=ip:[fd09::1]'
rnbd-client discover server=ip:10.9.0.1 --json | as_promised discover
expect_status 7 rnbd-client discover server=ip:10.9.0.1 dest_port=1299
rnbd-client path disconnect blya 'ip:[fd09::1]'
rnbd-client recover -n
[[ $(rnbd-client recover) == 'path blya ip:[fd09::1]' ]] || vm_fail "recovered: $(rnbd-client tree)"
vm_wait_until 20 well
expect_status 0 rnbd-client remap "$node"
expect_status 4 rnbd-client remap /dev/nbd9
rnbd-client doctor
rnbd-server doctor
rnbd-client doctor --json | as_promised doctor

vm_step "the same answers in other shapes, and what is not there"
rnbd-client tree --json | tee /tmp/tree | as_promised client-list
as_promised path-list < /tmp/tree
rnbd-server revalidate --json | as_promised revalidate empty
rnbd-server doctor --json | as_promised doctor
for words in resize unmap remap recover show 'path list' 'path reconnect ip:10.9.0.1' 'session set on_no_path=queue'; do
    read -r -a word <<< "$words"
    case ${#word[@]} in # the name that is not there comes before the last of three
        3) expect_status 4 rnbd-client "${word[0]}" "${word[1]}" nobody "${word[2]}" ;;
        *) expect_status 4 rnbd-client "${word[@]}" nobody ;;
    esac
done
expect_status 4 rnbd-server revalidate nobody
expect_status 10 rnbd-client events --control /run/rnbd/nobody.sock

vm_step "what a session does without a path can be changed while there is none"
rnbd-client session set blya mpath_policy=round-robin
[[ $(rnbd-client session list -o policy --noheaders) == round-robin ]] || vm_fail "$(rnbd-client session list)"
rnbd-client path disconnect blya 'ip:[fd09::1]'
rnbd-client path disconnect blya ip:10.9.0.1 --force
dd if="$node" of=/dev/null bs=4k count=1 iflag=direct status=none 2> "$RESULTS/dd.log" &
reader=$!
waits() { [[ $(rnbd-client list --json | grep -c '"in_flight": [1-9]') -gt 0 ]]; }
vm_wait_until 20 waits
rnbd-client session set all on_no_path=fail-after:1
status=0
wait "$reader" || status=$?
((status != 0)) || vm_fail "it was read without a path"
expect_status 2 rnbd-client check "$node"
rnbd-client session set all on_no_path=queue
rnbd-client recover
vm_wait_until 20 well
dd if="$node" of=/dev/null bs=4k count=1 iflag=direct status=none

vm_step "a device that the server would not have again is asked for"
mv /dev/ram0 /dev/hidden
rnbd-server session close blya
closed() { [[ $(rnbd-client list -o state --noheaders | sort -u | xargs) == *closed* ]]; }
vm_wait_until 20 closed
expect_status 4 rnbd-client remap "$node"
mv /dev/hidden /dev/ram0
rnbd-client recover
vm_wait_until 20 well

vm_step "what it names no more is unmapped"
: > /tmp/rnbdtab
apply --prune --json | as_promised apply
[[ -z $(rnbd-client list --noheaders) ]] || vm_fail "still mapped: $(rnbd-client list)"
pair_stop

vm_step "commands ask where the configuration says"
mkdir -p /etc/rnbd/client.toml.d
echo 'log_level = "info"' > /etc/rnbd/client.toml
echo 'control = "/run/rnbd/another.sock"' > /etc/rnbd/client.toml.d/control.toml
pair_start_client --config /etc/rnbd/client.toml
[[ -S /run/rnbd/another.sock && ! -e /run/rnbd/client.sock ]] || vm_fail "it listens elsewhere"
rnbd-client reload
echo 'control = [' > /etc/rnbd/client.toml.d/wrong.toml
rnbd-client list
rnbd-client list --control /run/rnbd/another.sock
pair_end client "$client_pid"

vm_step "all answers were as promised"
answers_are_as_promised
vm_step "done"
