# SPDX-License-Identifier: Apache-2.0
"""What the policies of a session make of two paths of which one is slow. Two machines with two cables; a server runs on
the other one."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchlib import machine
from benchlib.counters import of_machine
from benchlib.load import Fio, measure
from benchlib.machine import Place
from benchlib.scale import Daemons
from benchlib.workloads import KIB, Workload

POLICIES = ("round-robin", "min-inflight", "min-latency")
WORKLOADS = tuple(Workload(kind, 4 * KIB, depth, 1) for depth in (1, 8) for kind in ("randread", "randwrite"))


@dataclass
class Comparison:
    place: Place
    addresses: list[str]  # of the server: one for each path
    interface: str  # of this machine, that the second path goes out of
    delay_ms: int  # of what goes out there
    seconds: float
    rounds: int
    output: Path
    say: Callable[[str], None]

    def run(self) -> None:
        samples = []
        with self._mapped() as (node, choose), self._slow():
            for number in range(self.rounds):
                for policy in POLICIES if number % 2 == 0 else POLICIES[::-1]:
                    choose(policy)
                    for workload in WORKLOADS:
                        with Fio([node], workload, self.place.scratch) as fio:
                            sample = measure(fio, self.seconds, lambda: of_machine("client machine"))
                        samples.append({"policy": policy, "workload": workload.name, **sample.as_json()})
                self.say(f"round {number + 1} of {self.rounds}")
        results = {"cpus": os.cpu_count(), "rounds": self.rounds, "seconds": self.seconds, "delay_ms": self.delay_ms}
        self.output.write_text(json.dumps(results | {"policies": samples}, indent=1) + "\n")

    @contextmanager
    def _mapped(self) -> Iterator[tuple[str, Callable[[str], None]]]:
        """The device's node, and what sets its session's policy."""
        paths = len(self.addresses)
        with Daemons(self.place, self.addresses, serve=False) as daemons:
            node = machine.run(*daemons.map_words(0, paths=paths))
            daemons.wait_for_paths(paths)
            yield node, daemons.choose
            daemons.unmap(node)

    @contextmanager
    def _slow(self) -> Iterator[None]:
        machine.run("tc", "qdisc", "add", "dev", self.interface, "root", "netem", "delay", f"{self.delay_ms}ms")
        try:
            yield
        finally:
            machine.run("tc", "qdisc", "del", "dev", self.interface, "root")
