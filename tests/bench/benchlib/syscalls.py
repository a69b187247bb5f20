# SPDX-License-Identifier: Apache-2.0
"""System calls of processes, counted by the kernel's own histogram of raw_syscalls:sys_enter.

Counting makes every system call of the machine dearer, and switching a tracepoint patches the kernel's code: so it is
done once, after all that is timed, and stays on.
"""

import re
from collections import Counter
from pathlib import Path

from benchlib import machine

_TRACING = Path("/sys/kernel/tracing")
_EVENT = _TRACING / "events/raw_syscalls/sys_enter"
_LINE = re.compile(r"\{ common_pid: +([0-9]+), id: sys_(\w+) +\[ *[0-9]+\] \} hitcount: +([0-9]+)")


def start_counting() -> None:
    if not _EVENT.exists():
        machine.run("mount", "-t", "tracefs", "tracefs", str(_TRACING))
    machine.write(_EVENT / "trigger", "hist:keys=common_pid,id.syscall:size=8192")


def so_far(pid: int) -> Counter[str]:
    """Calls of the process's threads by name, since start_counting()."""
    threads = {int(task.name) for task in Path(f"/proc/{pid}/task").iterdir()}
    calls: Counter[str] = Counter()
    for thread, name, count in _LINE.findall((_EVENT / "hist").read_text()):
        if int(thread) in threads:
            calls[name] += int(count)
    return calls
