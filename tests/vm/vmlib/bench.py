# SPDX-License-Identifier: Apache-2.0
"""One run: starts the guests, passes on what they say and ask for, decides when it is over and how it went.

Everything happens on one thread that sleeps in one selector; no wait is without a bound. The exit codes:

    the script's own   the worse one of the guests'
    123                the script was content, but the kernel was not (see kernel_log.py)
    124                --timeout seconds were over
    125                the bench itself failed: no QEMU, no boot, a guest that went without a word
"""

import fcntl
import json
import os
import selectors
import shutil
import socket
import sys
import time
from pathlib import Path

from vmlib import BenchError, kernel_log, qmp
from vmlib.guest import Guest
from vmlib.machine import Machine

KERNEL_COMPLAINED, TIMED_OUT, BENCH_FAILED = 123, 124, 125
STOPPED = 128 + 15  # how a script ends that dies of our SIGTERM

STOP_SECONDS = 20  # for a script that was asked to end
POWER_OFF_SECONDS = 15  # from the end of the script to the end of QEMU
BLOCKED_SECONDS = 3  # for the kernel to log who hangs, after a timeout

RUN_RECORD = "run.json"


class Results:
    """The results directory of a run: locked while the run lasts, emptied of an earlier run's files at its start."""

    def __init__(self, path: Path, guests: list[str]):
        self.path = path
        self.shared = path / "shared"
        path.mkdir(parents=True, exist_ok=True)
        record = path / RUN_RECORD
        if not record.exists() and any(path.iterdir()):
            raise BenchError(f"{path} has files in it and is not an earlier run's results directory")
        self._record = open(record, "a")
        try:
            fcntl.flock(self._record, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BenchError(f"{path} is in use by another run") from None
        for old in ("a", "b", "shared"):
            shutil.rmtree(path / old, ignore_errors=True)
        for new in (*guests, "shared"):
            (path / new).mkdir()
        self.note({})

    def note(self, guests: dict[str, int]) -> None:
        """Record who is at work: our process and the guests' QEMU processes."""
        self._record.truncate(0)
        self._record.write(json.dumps({"runner": os.getpid(), "guests": guests}) + "\n")
        self._record.flush()

    def remove(self) -> None:
        shutil.rmtree(self.path)


class Bench:
    """A run from `start` to `close`; `run` in between returns the exit code."""

    def __init__(self, results: Results, timeout: float | None, allowed: list[str], verbose: bool):
        self._results = results
        self._started = time.monotonic()
        self._deadline = self._started + timeout if timeout else None
        self._allowed = allowed
        self._verbose = verbose
        self._selector = selectors.DefaultSelector()
        self._guests: list[Guest] = []

    def start(self, hardware: Machine, names: list[str], links: int, job: dict, shell: bool, idle: list[str]) -> None:
        """Start the guests. A shell is guest a's; guest b then runs the job's command, or `idle` without one."""
        cables = [socket.socketpair() for _ in range(links)]
        for side, name in enumerate(names):
            with_shell = shell and name == "a"
            mine = dict(job)
            mine["environment"] = job["environment"] | {"GUEST": name}
            if with_shell:
                mine["command"] = ["/bin/bash"]
            elif not job["command"]:
                mine["command"] = idle
            guest = Guest(
                name, self._results.path / name, self._results.shared, hardware, [cable[side] for cable in cables],
                mine, with_shell, prefix=f"{name}| " if len(names) > 1 and not shell else "",
            )  # fmt: skip
            self._guests.append(guest)
            self._results.note({each.name: each.process.pid for each in self._guests})
            self._selector.register(guest.pidfd, selectors.EVENT_READ, (self._on_exit, guest))
            self._selector.register(guest.request, selectors.EVENT_READ, (self._on_request, guest))
            self._selector.register(guest.output, selectors.EVENT_READ, (self._on_output, guest))
            if self._verbose:
                self._say(f"guest {name}: pid {guest.process.pid}: {' '.join(map(str, guest.process.args))}")

    def run(self) -> int:
        if not self._pump(self._deadline, self._is_over):
            return self._timed_out()
        self._say_verbose("stopping")
        for guest in self._guests:
            guest.stop()
            if guest.stopped and not guest.running:
                self._end(guest)
        self._pump(time.monotonic() + STOP_SECONDS, lambda: all(g.has_ended() for g in self._guests))
        self._pump(time.monotonic() + POWER_OFF_SECONDS, lambda: all(g.gone for g in self._guests if g.has_ended()))
        for guest in self._guests:
            self._end(guest)
        return max([self._verdict(guest) for guest in self._guests])

    def close(self) -> None:
        for guest in self._guests:
            guest.close()
        self._selector.close()

    # --- What happens --------------------------------------------------------------------------------------------

    def _is_over(self) -> bool:
        first, *others = self._guests
        return first.has_ended() or any(g.has_ended() and g.exit_code != 0 for g in others)

    def _pump(self, deadline: float | None, is_done) -> bool:
        """Handle events until `is_done()`; false when the deadline came first."""
        while not is_done():
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return False
            for key, _ in self._selector.select(left):
                handler, guest = key.data
                handler(guest)
        return True

    def _on_output(self, guest: Guest) -> bool:
        data = guest.output.recv(1 << 16)
        if data:
            guest.feed(data)
        else:
            self._selector.unregister(guest.output)
        return bool(data)

    def _on_exit(self, guest: Guest) -> None:
        self._selector.unregister(guest.pidfd)
        if guest.output in self._selector.get_map():
            while self._on_output(guest):
                pass  # it has an end now that QEMU is gone
        guest.process.wait()
        guest.flush()
        guest.gone = True
        self._say_verbose(f"guest {guest.name}: QEMU has ended")

    def _on_request(self, guest: Guest) -> None:
        lines = guest.read_requests()
        if lines is None:
            self._selector.unregister(guest.request)
            return
        for line in lines:
            words = line.split()
            if words == ["started"]:
                guest.running = True
                self._say_verbose(f"guest {guest.name}: its script has started")
            elif len(words) == 5 and words[0] == "link":
                guest.answer(f"{words[1]} {self._set_link(*words[2:])}")
            elif len(words) == 4 and words[0] == "pause":
                guest.answer(f"{words[1]} {self._pause(*words[2:])}")
            elif len(words) == 3 and words[0] == "cut":
                guest.answer(f"{words[1]} {self._cut_power(words[2])}")
            elif len(words) == 3 and words[0] == "reset":
                guest.answer(f"{words[1]} {self._reset(words[2])}")
            else:
                self._say(f"guest {guest.name} asks for something unknown: {line}")

    def _set_link(self, name: str, link: str, state: str) -> str:
        self._say_verbose(f"link {link} of guest {name}: {state}")
        if state not in ("on", "off") or name not in [guest.name for guest in self._guests] or not link.isdigit():
            return "usage: GUEST LINK on|off"
        try:
            qmp.set_link(self._results.path / name, int(link), state == "on")
        except BenchError as error:
            return str(error)
        return "ok"

    def _pause(self, name: str, state: str) -> str:
        self._say_verbose(f"guest {name}: pause {state}")
        if state not in ("on", "off") or name not in [guest.name for guest in self._guests]:
            return "usage: GUEST on|off"
        try:
            qmp.execute(self._results.path / name, "stop" if state == "on" else "cont", {})
        except BenchError as error:
            return str(error)
        return "ok"

    def _cut_power(self, name: str) -> str:
        victim = next((guest for guest in self._guests if guest.name == name), None)
        if victim is None or victim.has_ended():
            return "usage: GUEST, which runs"
        self._say_verbose(f"guest {name}: power off")
        victim.exit_code = 0
        victim.kill()
        return "ok"

    def _reset(self, name: str) -> str:
        victim = next((guest for guest in self._guests if guest.name == name), None)
        if victim is None or victim.has_ended():
            return "usage: GUEST, which runs"
        self._say_verbose(f"guest {name}: reset")
        try:
            qmp.reset(self._results.path / name)
        except BenchError as error:
            return str(error)
        victim.running = False
        return "ok"

    # --- How it went ---------------------------------------------------------------------------------------------

    def _end(self, guest: Guest) -> None:
        """End QEMU, if it has not ended, and handle what it left behind."""
        if not guest.gone:
            guest.kill()
            self._on_exit(guest)

    def _timed_out(self) -> int:
        waiting = [guest for guest in self._guests if not guest.gone]
        self._say(f"timeout: {time.monotonic() - self._started:.0f} s are over")
        for guest in waiting:
            guest.tell("blocked")
        self._pump(time.monotonic() + BLOCKED_SECONDS, lambda: all(guest.gone for guest in self._guests))
        for guest in waiting:
            self._end(guest)
            what = "its script was running" if guest.running else "its script had not started"
            self._say(f"guest {guest.name}: {what}; the kernel's last lines:")
            self._say_last_lines(guest)
        for guest in self._guests:
            self._say_complaints(guest)
        return TIMED_OUT

    def _verdict(self, guest: Guest) -> int:
        """The exit code this guest contributes; says what is wrong, if anything is."""
        complained = self._say_complaints(guest)
        code = guest.exit_code
        if code is None:
            if guest.is_shell or complained or (guest.stopped and not guest.running):
                code = 0
            else:
                self._say_silent(guest)
                code = BENCH_FAILED
        elif guest.stopped and code == STOPPED:
            code = 0
        elif code:
            self._say(f"guest {guest.name}: its script ended with {code}")
        return code or (KERNEL_COMPLAINED if complained else 0)

    def _say_complaints(self, guest: Guest) -> bool:
        complaints = kernel_log.complaints(guest.console, self._allowed)
        for line in complaints[: kernel_log.SHOWN_LINES]:
            self._say(f"guest {guest.name}: its kernel says: {line}")
        return bool(complaints)

    def _say_last_lines(self, guest: Guest) -> None:
        for line in kernel_log.last_lines(guest.console):
            self._say(f"    {line}")

    def _say_silent(self, guest: Guest) -> None:
        if guest.stopped:
            self._say(f"guest {guest.name}: its script did not end within {STOP_SECONDS} s of being asked to")
            return
        self._say(f"guest {guest.name} is gone without an exit code; QEMU's is {guest.process.returncode}. The last lines:")
        for line in (guest.directory / "qemu.log").read_text(errors="replace").splitlines():
            self._say(f"    {line}")
        self._say_last_lines(guest)

    def _say(self, text: str) -> None:
        print(f"vm: {text}", file=sys.stderr, flush=True)

    def _say_verbose(self, text: str) -> None:
        if self._verbose:
            self._say(f"{time.monotonic() - self._started:5.1f} s: {text}")
