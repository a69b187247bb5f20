# SPDX-License-Identifier: Apache-2.0
"""System calls of processes, counted by the kernel's own histogram of raw_syscalls:sys_enter.

Counting makes every system call of the machine dearer, and switching a tracepoint patches the kernel's code: so it is
done once, after all that is timed, and stays on. The histogram has room for so many threads and calls; forget() makes
some.
"""

import re
from collections import Counter
from pathlib import Path

from benchlib import BenchError, machine

_TRACING = Path("/sys/kernel/tracing")
_EVENT = _TRACING / "events/raw_syscalls/sys_enter"
_LINE = re.compile(r"\{ common_pid: +([0-9]+), id: sys_(\w+) +\[ *[0-9]+\] \} hitcount: +([0-9]+)")
_DROPPED = re.compile(r"Dropped: +([0-9]+)")
_TRIGGER = "hist:keys=common_pid,id.syscall:size=8192"


class Full(BenchError):
    """There was no room for some of the calls."""


def start_counting() -> None:
    if not _EVENT.exists():
        machine.run("mount", "-t", "tracefs", "tracefs", str(_TRACING))
    machine.write(_EVENT / "trigger", _TRIGGER)


def forget() -> None:
    """What was counted so far."""
    with open(_EVENT / "trigger", "a") as trigger:  # who truncates it takes away what is there
        trigger.write(f"{_TRIGGER}:clear")


def so_far(pid: int) -> Counter[str]:
    """Calls of the process's threads by name, since start_counting() or forget(). Errors: Full."""
    threads = {int(task.name) for task in Path(f"/proc/{pid}/task").iterdir()}
    calls: Counter[str] = Counter()
    counted = (_EVENT / "hist").read_text()
    dropped = _DROPPED.search(counted)
    if dropped and int(dropped[1]):
        raise Full(f"no room for {dropped[1]}")
    for thread, name, count in _LINE.findall(counted):
        if int(thread) in threads:
            calls[name] += int(count)
    return calls
