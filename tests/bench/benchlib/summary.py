# SPDX-License-Identifier: Apache-2.0
"""What the samples of a run come to: medians over its rounds, their spread, ratios between peers."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

MACHINES = ("client machine", "server machine")  # the first alone, if client and server are on one
PROCESSES = ("fio", "client", "server")

Metric = Callable[[dict], float]


def rate(sample: dict) -> float:
    """I/Os per second."""
    return sample["ios"] / sample["seconds"]


def cpu_us(sample: dict, who: tuple[str, ...] = MACHINES) -> float:
    """CPU time per I/O of all of `who`, in µs."""
    return sum(sample["spent"]["cpu"].get(name, 0.0) for name in who) / sample["ios"] * 1e6


def rest_us(sample: dict) -> float:
    """CPU time per I/O in no process of a peer's: kernel threads, interrupts, this program."""
    return cpu_us(sample) - cpu_us(sample, PROCESSES)


def switches(sample: dict, who: tuple[str, ...] = MACHINES) -> float:
    """Context switches per I/O."""
    return sum(sample["spent"]["switches"].get(name, 0) for name in who) / sample["ios"]


@dataclass(frozen=True)
class Figure:
    median: float
    spread: float  # of the round that is farthest from the median, as a part of it
    rounds: int

    @staticmethod
    def of(values: list[float]) -> "Figure":
        middle = median(values)
        spread = max(abs(value - middle) for value in values) / middle if middle else 0.0
        return Figure(middle, spread, len(values))


class Summary:
    def __init__(self, path: Path):
        self.results = json.loads(path.read_text())
        self.workloads: list[str] = self.results["workloads"]
        self.peers: list[str] = [peer for peer in self.results["peers"] if self._met_all(peer)]

    def _met_all(self, peer: str) -> bool:
        """One that failed in the first round did not."""
        return all(self.samples(peer, workload) for workload in self.workloads)

    def samples(self, peer: str, workload: str) -> list[dict]:
        return [row for row in self.results["samples"] if row["peer"] == peer and row["workload"] == workload]

    def figure(self, peer: str, workload: str, metric: Metric) -> Figure | None:
        """None for a peer that was not there."""
        values = [metric(sample) for sample in self.samples(peer, workload)]
        return Figure.of(values) if values else None

    def ratio(self, peer: str, to: str, workload: str, metric: Metric) -> float | None:
        mine, other = self.figure(peer, workload, metric), self.figure(to, workload, metric)
        return mine.median / other.median if mine and other and other.median else None

    def syscalls(self, peer: str, workload: str, role: str) -> tuple[float, float] | None:
        """System calls per I/O of one of the peer's processes; and those of them that let others run while it looks for
        work."""
        for row in self.results["syscalls"]:
            if row["peer"] == peer and row["workload"] == workload and role in row and row["ios"]:
                return sum(row[role].values()) / row["ios"], row[role].get("sched_yield", 0) / row["ios"]
        return None

    def stages(self, peer: str, workload: str, where: str) -> dict[str, float] | None:
        """CPU time per I/O of one of the MACHINES by stage, in µs; None if nobody looked."""
        for row in self.results["stages"]:
            if (row["peer"], row["workload"], row["machine"]) == (peer, workload, where):
                per_io = self.results["cpus"] * 1e6 / self.figure(peer, workload, rate).median
                return {stage: share * per_io for stage, share in row["shares"].items()}
        return None


def bytes_of(workload: str) -> int:
    """Of one I/O, by the workload's name."""
    size = workload.split("-")[0]
    return int(size[:-1]) << (20 if size.endswith("m") else 10)
