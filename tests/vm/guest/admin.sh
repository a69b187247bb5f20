#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# What an administrator changes while disks are in use, with real daemons: configurations and their drop-ins, reload,
# exports by name, devices and sessions that are closed, draining, and mappings that come back after a reboot.
set -euo pipefail
source "$VM_LIB"
source "$(dirname "$0")/pair.sh"
source "$(dirname "$0")/answers.sh"

mapped() { [[ $(rnbd-client list --noheaders | wc -l) == "$1" ]]; }
state_is() { [[ $(rnbd-client list --noheaders | awk -v node="$1" '$1 == node { print $4 }') == "$2" ]]; }
reads() { dd if="$1" of=/dev/null bs=64k count=16 iflag=direct status=none; }
config=/tmp/rnbd
remembered=/var/lib/rnbd

vm_load_modules nbd brd,rd_nr=3,rd_size=32768
vm_rxe_loopback
mkdir -p $config/server.toml.d $config/client.toml.d
rm -f $remembered/*-state.json*
cat > $config/server.toml << 'END'
dev_search_path = "/dev/exports"
[[export]]
name = "fast"
path = "/dev/ram0"
[[export]]
name = "frozen"
path = "/dev/ram1"
access = "ro"
END
echo 'on_no_path = "fail-after:60"' > $config/client.toml
mkdir -p /dev/exports
way="sessname=blya path=ip:10.9.0.1"
map() { # shellcheck disable=SC2086 # the words are wanted
    rnbd-client map $way "$@"
}

vm_step "configurations are validated, shown, and read with their drop-ins"
echo 'log_level = "debug"' > $config/server.toml.d/10-log.toml
echo 'sess_queue_depth = 256' > $config/server.toml.d/20-depth.toml
rnbd-server config validate $config/server.toml
rnbd-server config show $config/server.toml | tee /tmp/shown | grep -q "^log_level = \"debug\" .*10-log.toml:1:1$" || vm_fail "$(cat /tmp/shown)"
rnbd-server config show $config/server.toml --json | as_promised config-show
rnbd-client config show $config/client.toml --json | as_promised config-show
pair_start_server --config $config/server.toml
pair_start_client --config $config/client.toml
grep -q 'a session pins 32 MiB' "$RESULTS/server.log" || vm_fail "the drop-in was not read"

vm_step "exports by name"
fast=$(map device_path=fast)
pair_expect 6 EROFS map device_path=frozen
frozen=$(map device_path=frozen access_mode=ro)
reads "$frozen"
rnbd-server export list
rnbd-server export list --json | as_promised export-list
rnbd-server show fast
rnbd-server show blya --json > "$RESULTS/show.json"
pair_expect 4 ENOENT rnbd-server show nobody
rnbd-server list --json | as_promised server-list
rnbd-client list --json | as_promised client-list
pair_expect 3 EEXIST rnbd-server export add fast path=/dev/ram2
pair_expect 4 ENOENT rnbd-server export add lost path=/dev/ram9
rnbd-server export add extra path=/dev/ram2
extra=$(map device_path=extra)
pair_expect 5 'EBUSY: extra is open: blya' rnbd-server export remove extra
pair_expect 6 'EPERM: fast is in the configuration' rnbd-server export remove fast

vm_step "reload changes what it can, and names the rest; nothing is disconnected"
printf 'log_level = "info"\nport_nr = 4321\n' > $config/server.toml.d/10-log.toml
rnbd-server reload --json > /tmp/reloaded
as_promised reload < /tmp/reloaded
rnbd-server reload | tee /tmp/reloaded
[[ $(cat /tmp/reloaded) == "needs a restart: port_nr" ]] || vm_fail "the second time it should say that only"
echo 'log_levle = "info"' > $config/server.toml.d/10-log.toml
pair_expect 12 '10-log.toml:1:1: unknown key' rnbd-server reload
rm $config/server.toml.d/10-log.toml
kill -HUP "$server_pid"
reloaded() { [[ $(grep -c 'info: reloaded: ' "$RESULTS/server.log") == 3 ]]; }
vm_wait_until 10 reloaded
echo 'hb_missed_max = 7' > $config/client.toml.d/hb.toml
[[ $(rnbd-client reload) == "changed: hb_missed_max" ]] || vm_fail "the client's reload says otherwise"
echo 'hb_missed_max = 0' > $config/client.toml.d/hb.toml
pair_expect 12 'hb.toml:1:17: hb_missed_max must be 1 to 100' rnbd-client reload
rm $config/client.toml.d/hb.toml
[[ $(rnbd-client path list --json | grep -c '"reconnects": 0') == 1 ]] || vm_fail "a path was lost: $(rnbd-client path list)"
reads "$fast"

vm_step "reload gives no name that is open to another disk"
printf '[[export]]\nname = "fast"\npath = "/dev/ram2"\n[[export]]\nname = "idle"\npath = "/dev/ram2"\n' > $config/server.toml.d/30-moved.toml
pair_expect 11 'EBUSY: export: fast stays /dev/ram0, and is not /dev/ram2: blya has it open' rnbd-server reload
{ rnbd-server reload --json || [[ $? == 11 ]]; } | tee /tmp/reloaded | as_promised reload
grep -q '"reason": "fast stays' /tmp/reloaded || vm_fail "it does not say what it refuses: $(cat /tmp/reloaded)"
rnbd-server export list | tee /tmp/exports
grep -q '^fast *\/dev\/ram0 ' /tmp/exports || vm_fail "fast is another disk"
grep -q '^idle *\/dev\/ram2 ' /tmp/exports || vm_fail "what could change has not"
rm $config/server.toml.d/30-moved.toml
[[ $(rnbd-server reload) == "changed: export" ]] || vm_fail "idle is still there"

vm_step "what is added and hidden by the configuration is kept"
rnbd-server export add shy path=/dev/ram2
printf '[[export]]\nname = "shy"\npath = "/dev/ram1"\n' > $config/server.toml.d/30-shy.toml
rnbd-server reload
rnbd-server export list | grep -q '^shy .*added (hidden)' || vm_fail "$(rnbd-server export list)"
rnbd-server export list --json | as_promised export-list
rm $config/server.toml.d/30-shy.toml
rnbd-server reload
rnbd-server export list | grep -q '^shy *\/dev\/ram2 .* added ' || vm_fail "$(rnbd-server export list)"
rnbd-server export remove shy

vm_step "a client that has its share gets no more, keeps what it has, and the log says why"
echo 'max_sessions_per_client = 1' > $config/server.toml.d/limits.toml
[[ $(rnbd-server reload) == "changed: max_sessions_per_client" ]] || vm_fail "the limit is not in force"
more() { rnbd-client map sessname=more path=ip:10.9.0.1 device_path=fast access_mode=ro; }
for _ in {1..5}; do pair_expect 1 'ENOMEM: .*one of its limits' more; done
grep 'refused a connection of ip:10.9.0.1: this client would have 2 sessions; max_sessions_per_client is 1' "$RESULTS/server.log"
reads "$fast"
rm $config/server.toml.d/limits.toml
rnbd-server reload
rnbd-client unmap "$(more)"

vm_step "a device that is closed by force is opened again by its client"
rnbd-server session close blya fast
is_open_again() { reads "$fast" 2> /dev/null && state_is "$fast" open; }
vm_wait_until 20 is_open_again || vm_fail "$(rnbd-client list) $(rnbd-server list)"
pair_expect 4 ENOENT rnbd-server session close blya nothing
[[ $(rnbd-server list --noheaders | wc -l) == 3 ]] || vm_fail "ids are left: $(rnbd-server list)"

vm_step "an export that is removed by force leaves its device closed, and says so"
rnbd-server export remove extra --force
is_closed() { state_is "$extra" closed; }
vm_wait_until 20 is_closed || vm_fail "$(rnbd-client list)"
! reads "$extra" 2> /dev/null || vm_fail "it can be read all the same"
rnbd-client show "$extra" | grep '^last_error: '
rnbd-client check "$extra" && vm_fail "check finds nothing"
pair_expect 5 'EBUSY: extra is open, as another disk: blya has /dev/ram2' rnbd-server export add extra path=/dev/ram1
rnbd-server export add extra path=/dev/ram2
is_back() { state_is "$extra" open; }
vm_wait_until 20 is_back || vm_fail "$(rnbd-client list)"
reads "$extra"

vm_step "draining: nothing new, and an end when the last has gone"
rnbd-server drain 2> "$RESULTS/drain.log" &
drain_pid=$!
drains() { [[ $(rnbd-server session list --noheaders | awk '{ print $3 }') == draining ]]; }
vm_wait_until 10 drains
rnbd-server list
pair_expect 7 ESHUTDOWN rnbd-client map sessname=other path=ip:10.9.0.1 device_path=fast access_mode=ro
rnbd-client unmap "$frozen"
pair_expect 8 'ETIMEDOUT: 2 devices still open' rnbd-server drain --timeout 0.5
rnbd-server session close blya
vm_wait_until 20 is_open_again || vm_fail "what was open may come back: $(rnbd-client list)"
rnbd-client unmap "$fast"
one_is_left() { grep -q '1 device still open' "$RESULTS/drain.log"; }
vm_wait_until 10 one_is_left || vm_fail "no progress: $(cat "$RESULTS/drain.log")"
rnbd-client unmap "$extra"
wait $drain_pid || vm_fail "drain ended with $?: $(cat "$RESULTS/drain.log")"
pair_expect 7 ESHUTDOWN map device_path=fast
rnbd-server drain --off --json | as_promised drain
rnbd-client unmap "$(map device_path=fast)"

vm_step "what was added is remembered by the server, and what was persistent by the client"
node=$(map device_path=extra persist=yes)
temporary=$(map device_path=fast)
rnbd-client list --json | tee /tmp/list | as_promised client-list
[[ $(grep -c '"persist": true' /tmp/list) == 1 ]] || vm_fail "one is persistent: $(cat /tmp/list)"
pair_end client "$client_pid"
pair_end server "$server_pid"
pair_start_client --config $config/client.toml
mapped 0 || vm_fail "without a server: $(rnbd-client list)"
is_waiting() { rnbd-client list --json | tee /tmp/list | grep -q '"last_error": ".*[A-Z]'; }
vm_wait_until 60 is_waiting || vm_fail "it does not say that it waits: $(cat /tmp/list)"
as_promised client-list < /tmp/list
pair_start_server --config $config/server.toml
comes_back() { mapped 1 && state_is "$node" open; }
vm_wait_until 60 comes_back || vm_fail "not mapped again: $(rnbd-client list) $(tail -n 5 "$RESULTS/client.log")"
reads "$node"
echo "$temporary is not back"
rnbd-client unmap "$node"
pair_end client "$client_pid"
pair_start_client --config $config/client.toml
grep -q '"mappings": \[\]' $remembered/client-state.json || vm_fail "unmap has not forgotten: $(cat $remembered/client-state.json)"
mapped 0

vm_step "a mapping that waits for its server can be forgotten"
node=$(map device_path=extra persist=yes)
pair_end client "$client_pid"
rnbd-server export remove extra
pair_start_client --config $config/client.toml
vm_wait_until 60 is_waiting || vm_fail "it does not say that it waits: $(cat /tmp/list)"
rnbd-client unmap blya/extra
pair_expect 4 ENOENT rnbd-client unmap blya/extra
! rnbd-client list --json | grep -q waiting || vm_fail "it still waits"
rnbd-server export add extra path=/dev/ram2 --temporary

vm_step "a keeper's daemon that is killed or replaced goes on with it, and maps nothing twice"
pair_end client "$client_pid"
pair_start_client --config $config/client.toml --supervise
node=$(map device_path=extra persist=yes)
for way_to_go in KILL upgrade; do
    pid=$(pair_daemon_pid)
    if [[ $way_to_go == KILL ]]; then kill -KILL "$pid"; else rnbd-client upgrade; fi
    another() { [[ $(pair_daemon_pid) != "$pid" ]] && mapped 1 2> /dev/null; }
    vm_wait_until 60 another || vm_fail "$way_to_go: $(rnbd-client list)"
    vm_wait_until 30 state_is "$node" open
    rnbd-client list --json | grep -q '"persist": true' || vm_fail "$way_to_go: not persistent any more"
    reads "$node"
done
[[ $(rnbd-client reload) == "nothing has changed" ]] || vm_fail "its configuration is another one"
echo 'x = 1' > $config/client.toml.d/wrong.toml
pid=$(pair_daemon_pid)
kill -KILL "$pid"
vm_wait_until 60 another || vm_fail "with a wrong file: $(tail -n 5 "$RESULTS/client.log")"
grep -q 'wrong.toml:1:1: unknown key' "$RESULTS/client.log" || vm_fail "it does not say that it left the file out"
vm_wait_until 30 state_is "$node" open
pair_expect 12 'wrong.toml:1:1: unknown key' rnbd-client reload
rm $config/client.toml.d/wrong.toml
[[ $(rnbd-client reload) == "nothing has changed" ]] || vm_fail "it has not kept what the daemon before it had"
pair_end client "$client_pid"
pair_start_client --config $config/client.toml
vm_wait_until 60 mapped 1 || vm_fail "a stop has forgotten it: $(tail -n 5 "$RESULTS/client.log")"

vm_step "a damaged state file is reported, and set aside"
pair_end client "$client_pid"
truncate -s -20 $remembered/client-state.json
cp $remembered/client-state.json /tmp/damaged
pair_start_client --config $config/client.toml
mapped 0
grep -q 'client-state.json is damaged, and now .*client-state.json.damaged-1' "$RESULTS/client.log" || vm_fail "nothing is said"
cmp /tmp/damaged $remembered/client-state.json.damaged-1
rnbd-client unmap "$(map device_path=extra persist=yes)"
pair_expect 2 'persist=maybe' map device_path=extra persist=maybe

vm_step "without a place to remember it nothing persists"
pair_end client "$client_pid"
pair_start_client --state-dir ''
pair_expect 1 'EOPNOTSUPP: there is no state_dir' map device_path=extra persist=yes
mapped 0
pair_stop

vm_step "all answers were as promised"
answers_are_as_promised
vm_step "done"
