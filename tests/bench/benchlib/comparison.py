# SPDX-License-Identifier: Apache-2.0
"""The run itself, on the client's machine: rounds over all peers, each of which meets every workload, then a profile if
one is wanted, then a count of system calls. The results are written after each round."""

import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchlib import machine, syscalls, wire
from benchlib.counters import Counters, of_machine, of_processes
from benchlib.load import Fio, measure
from benchlib.machine import Place
from benchlib.peers import Peer
from benchlib.profile import profile
from benchlib.sides import HereServer, Server
from benchlib.workloads import Workload

_COUNTED_SECONDS = 1.0


@dataclass
class Plan:
    rounds: int
    seconds: float  # of one window
    peers: list[str]
    workloads: list[Workload]
    profile: list[str]  # PEER.WORKLOAD
    command: str  # that made the results
    guests: int  # 0: no guest but the machine itself


@dataclass
class Comparison:
    plan: Plan
    place: Place
    peers: dict[str, Peer]
    server: Server
    output: Path
    say: Callable[[str], None]
    results: dict = field(default_factory=dict)

    def run(self) -> None:
        self._begin()
        for number in range(self.plan.rounds):
            # Neighbours in time differ from round to round.
            order = self.plan.peers if number % 2 == 0 else self.plan.peers[::-1]
            for name in order:
                self._one_peer(number, name)
            self._save()
        if self.plan.profile:
            self._profile()
        if isinstance(self.server, HereServer):
            self._count_syscalls()
        self._save()

    def _begin(self) -> None:
        self.results = {
            "command": self.plan.command,
            "kernel": platform.release(),
            "cpus": os.cpu_count(),
            "guests": self.plan.guests,
            "seconds": self.plan.seconds,
            "rounds": self.plan.rounds,
            "peers": self.plan.peers,
            "workloads": [workload.name for workload in self.plan.workloads],
            "wire": [],
            "samples": [],
            "syscalls": [],
            "stages": [],
        }
        if machine.has_program("ib_write_bw"):
            self.results["wire"] = [figure.as_json() for figure in wire.limits(self.server, self.place.address)]

    def _save(self) -> None:
        self.output.write_text(json.dumps(self.results, indent=1) + "\n")

    @contextmanager
    def _attached(self, name: str) -> Iterator[tuple[Peer, str]]:
        """The peer, and the node of its device."""
        peer = self.peers[name]
        self.server.serve(name)
        try:
            node = peer.attach()
            try:
                yield peer, node
            finally:
                peer.detach()
        finally:
            self.server.withdraw()

    def _one_peer(self, number: int, name: str) -> None:
        began = time.monotonic()
        with self._attached(name) as (peer, node):
            for workload in self.plan.workloads:
                with Fio([node], workload, self.place.scratch) as fio:
                    sample = measure(fio, self.plan.seconds, lambda: self._spent(peer))
                row = {"round": number, "peer": name, "workload": workload.name, **sample.as_json()}
                self.results["samples"].append(row)
        self.say(f"round {number + 1} of {self.plan.rounds}: {name}, {time.monotonic() - began:.0f} s")

    def _spent(self, peer: Peer) -> Counters:
        of_client = of_processes({"client": peer.client.pid} if peer.client else {})
        return of_machine("client machine").together(of_client).together(self.server.spent())

    def _count_syscalls(self) -> None:
        names = [name for name in self.plan.peers if name.startswith(("ours", "nbd"))]
        if names:
            syscalls.start_counting()
        for name in names:
            syscalls.forget()
            try:
                self._count_of_peer(name)
                self.say(f"system calls: {name}")
            except syscalls.Full as error:
                self.say(f"system calls: {name}, and not all: {error}")

    def _count_of_peer(self, name: str) -> None:
        with self._attached(name) as (peer, node):
            for workload in filter(Workload.is_small, self.plan.workloads):
                row = {"peer": name, "workload": workload.name, **self._counted(peer, node, workload)}
                self.results["syscalls"].append(row)

    def _counted(self, peer: Peer, node: str, workload: Workload) -> dict:
        programs = {role: program for role, program in (("client", peer.client), ("server", peer.server)) if program}
        with Fio([node], workload, self.place.scratch) as fio:
            ios, before = fio.ios(), {role: syscalls.so_far(program.pid) for role, program in programs.items()}
            time.sleep(_COUNTED_SECONDS)
            after = {role: syscalls.so_far(program.pid) for role, program in programs.items()}
            return {"ios": fio.ios() - ios, **{role: after[role] - before[role] for role in programs}}

    def _profile(self) -> None:
        for name in self.plan.peers:
            wanted = [workload for workload in self.plan.workloads if f"{name}.{workload.name}" in self.plan.profile]
            if not wanted:
                continue
            with self._attached(name) as (_peer, node):
                for workload in wanted:
                    with Fio([node], workload, self.place.scratch):
                        taken = profile(self.plan.seconds, self.place.scratch)
                    self.output.with_name(f"{name}.{workload.name}.txt").write_text(taken.functions)
                    row = {"peer": name, "workload": workload.name, "shares": taken.stages}
                    self.results["stages"].append(row)
            self.say(f"profile: {name}")
