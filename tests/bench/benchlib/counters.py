# SPDX-License-Identifier: Apache-2.0
"""What a machine and some of its processes have spent so far: CPU time and context switches, as the kernel counts them.

A machine's CPU time is what its CPUs did not idle, which Linux knows exactly where it stops the tick of an idle CPU. A
process's is exact too, but interrupts that hit it count as its own: soft-RoCE's work among them.
"""

import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_IDLE_FIELDS = (4, 5)  # of the line "cpu": idle, iowait


@dataclass
class Counters:
    """Seconds of CPU time and context switches, by who spent them."""

    cpu: dict[str, float] = field(default_factory=dict)
    switches: dict[str, int] = field(default_factory=dict)

    def since(self, before: "Counters") -> "Counters":
        return Counters(
            {name: value - before.cpu[name] for name, value in self.cpu.items()},
            {name: value - before.switches[name] for name, value in self.switches.items()},
        )

    def together(self, other: "Counters") -> "Counters":
        return Counters(self.cpu | other.cpu, self.switches | other.switches)

    def as_json(self) -> dict:
        return asdict(self)


def of_machine(name: str) -> Counters:
    lines = Path("/proc/stat").read_text().splitlines()
    idle = sum(int(lines[0].split()[column]) for column in _IDLE_FIELDS) / _TICKS
    switches = next(int(line.split()[1]) for line in lines if line.startswith("ctxt "))
    return Counters({name: os.cpu_count() * time.clock_gettime(time.CLOCK_BOOTTIME) - idle}, {name: switches})


def of_processes(pids: dict[str, list[int]]) -> Counters:
    total = Counters()
    for name, these in pids.items():
        tasks = [task for pid in these for task in Path(f"/proc/{pid}/task").iterdir()]
        total.cpu[name] = sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9
        total.switches[name] = sum(_switches(task) for task in tasks)
    return total


def _switches(task: Path) -> int:
    lines = (task / "status").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if "ctxt_switches" in line)
