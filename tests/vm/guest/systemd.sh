# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# systemd for guest scripts, to be sourced behind lib.sh: the first process of a PID namespace, on the host's own Debian.
# What it logs, and the daemons', is in $RESULTS.

prepare_for_systemd() {
    : > /etc/fstab
    rm -f /var/lib/man-db/auto-update # an index takes a minute here
    ln -s /dev/null /etc/systemd/system/systemd-tmpfiles-setup.service # it would empty the host's /tmp, in our layer
    rm -f /usr/sbin/policy-rc.d # of a container: no package may start anything
}
settled() { inside udevadm settle --timeout=60; }

init=
boot() { # systemd up to basic.target; its pid is in init
    local unshare
    mkdir -p /sys/fs/cgroup/machine
    (
        echo "$BASHPID" > /sys/fs/cgroup/machine/cgroup.procs
        exec unshare --cgroup --mount --pid --fork bash -c '
            set -e
            umount /sys/fs/cgroup
            mount -t cgroup2 cgroup2 /sys/fs/cgroup
            mount -t proc proc /proc
            exec env -i PATH="$PATH" container=guest /lib/systemd/systemd --unit=basic.target --show-status=1'
    ) < /dev/null >> "$RESULTS/systemd.log" 2>&1 &
    unshare=$!
    vm_wait_until 30 has_child "$unshare"
    init=$child
    vm_wait_until 120 is_booted || vm_fail "systemd does not come up: $(tail -n 20 "$RESULTS/systemd.log")"
}
has_child() { # sets child
    child=$(cat "/proc/$1/task/$1/children" 2> /dev/null) && child=${child% } && [[ -n $child ]]
}
inside() { nsenter --target "$init" --mount --pid -- "$@"; }
is_booted() { [[ $(inside systemctl is-active basic.target 2> /dev/null) == active ]]; }
is_down() { [[ ! -d /proc/$init ]]; }
shut_down() { # SECONDS it may take
    inside systemctl --no-block poweroff
    vm_wait_until "$1" is_down || vm_fail "systemd does not end: $(tail -n 20 "$RESULTS/systemd.log")"
    rm -rf /run/systemd
}
journal() { inside journalctl --no-pager -o cat "$@"; }
explain() { # UNIT
    inside systemctl --no-pager status "$1" || true
    journal -n 40 -u "$1" || true
}
start() { inside systemctl start "$1" || { explain "$1"; vm_fail "$1 does not start"; }; }
finish() { # what the daemons said, and who hangs where, is wanted if the test fails
    local status=$?
    ((status == 0)) || echo w > /proc/sysrq-trigger
    [[ -z $init || ! -d /proc/$init ]] || journal -u rnbd-client -u rnbd-server -u systemd-udevd > "$RESULTS/journal.log" 2>&1
    if ((status != 0)); then
        for task in $(pgrep -f 'rnbd-client daemon' | sed 's|.*|/proc/&/task/*|'); do
            echo "$task $(< "$task/comm"): $(head -n 3 "$task/stack" | xargs)"
        done > "$RESULTS/stacks.log" 2>&1
    fi
    exit $status
}
trap finish EXIT
