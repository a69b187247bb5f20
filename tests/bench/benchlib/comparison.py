# SPDX-License-Identifier: Apache-2.0
"""The run itself, on the client's machine: rounds over all peers, each of which meets every workload, then a profile if
one is wanted, then a count of system calls. The results are written after each round, and however it ends."""

import json
import os
import platform
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchlib import BenchError, machine, syscalls, wire
from benchlib.counters import Counters, of_machine, of_processes
from benchlib.load import Fio, measure
from benchlib.machine import Place
from benchlib.peers import Peer
from benchlib.profile import Profile, Recording
from benchlib.sides import Server
from benchlib.summary import MACHINES
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
        try:
            for number in range(self.plan.rounds):
                # Neighbours in time differ from round to round.
                order = self.plan.peers if number % 2 == 0 else self.plan.peers[::-1]
                for name in filter(self._takes_part, order):
                    self._try(name, f"in round {number + 1}", lambda: self._one_peer(number, name))
                self._save()
            if self.plan.profile:
                self._profile()
            self._count_syscalls()
        finally:  # what there is
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
            "left_out": {},  # by peer, why
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

    def _takes_part(self, name: str) -> bool:
        return name not in self.results["left_out"]

    def _try(self, name: str, when: str, step: Callable[[], None]) -> None:
        """A peer that fails, and may have left its device behind, takes part no more; without ours there is no
        comparison."""
        try:
            step()
        except (BenchError, OSError) as error:
            if name.startswith("ours"):
                raise
            reason = f"{when}: {first_of(error)}"
            self.results["left_out"][name] = reason
            self.say(f"{name} is left out from here on: {reason}")

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
        of_client = of_processes({"client": [peer.client.pid]} if peer.client else {})
        return of_machine("client machine").together(of_client).together(self.server.spent())

    def _count_syscalls(self) -> None:
        names = [name for name in filter(self._takes_part, self.plan.peers) if name.startswith(("ours", "nbd"))]
        if names:
            syscalls.start_counting()
            if self.server.is_far:
                self.server.start_counting()
        for name in names:
            syscalls.forget()
            if self.server.is_far:
                self.server.forget_calls()
            self._try(name, "while its system calls were counted", lambda: self._count_of_peer(name))

    def _count_of_peer(self, name: str) -> None:
        try:
            with self._attached(name) as (peer, node):
                for workload in filter(Workload.is_small, self.plan.workloads):
                    row = {"peer": name, "workload": workload.name, **self._counted(peer, node, workload)}
                    self.results["syscalls"].append(row)
            self.say(f"system calls: {name}")
        except syscalls.Full as error:
            self.say(f"system calls: {name}, and not all: {error}")

    def _counted(self, peer: Peer, node: str, workload: Workload) -> dict:
        with Fio([node], workload, self.place.scratch) as fio:
            ios, before = fio.ios(), self._calls(peer)
            time.sleep(_COUNTED_SECONDS)
            ios, after = fio.ios() - ios, self._calls(peer)
            return {"ios": ios, **{role: after[role] - before[role] for role in after}}

    def _calls(self, peer: Peer) -> dict[str, Counter[str]]:
        """So far, by role, of those that have a process."""
        calls = {"client": syscalls.so_far(peer.client.pid) if peer.client else None, "server": self.server.calls()}
        return {role: counted for role, counted in calls.items() if counted is not None}

    def _profile(self) -> None:
        for name in filter(self._takes_part, self.plan.peers):
            wanted = [workload for workload in self.plan.workloads if f"{name}.{workload.name}" in self.plan.profile]
            if wanted:
                self._try(name, "while it was profiled", lambda: self._profile_of_peer(name, wanted))

    def _profile_of_peer(self, name: str, wanted: list[Workload]) -> None:
        with self._attached(name) as (_peer, node):
            for workload in wanted:
                for where, taken in zip(MACHINES, self._profiles(node, workload)):
                    file = f"{name}.{workload.name}{'.server' if where == MACHINES[1] else ''}.txt"
                    self.output.with_name(file).write_text(taken.functions)
                    row = {"peer": name, "workload": workload.name, "machine": where, "shares": taken.stages}
                    self.results["stages"].append(row)
        self.say(f"profile: {name}")

    def _profiles(self, node: str, workload: Workload) -> list[Profile]:
        """Of each machine."""
        with Fio([node], workload, self.place.scratch):
            if self.server.is_far:
                self.server.start_recording(self.plan.seconds)
            here = Recording(self.plan.seconds, self.place.scratch)
            here.wait()
            if self.server.is_far:
                self.server.wait_for_recording()
        return [here.profile(), self.server.profile()] if self.server.is_far else [here.profile()]


def first_of(error: BaseException) -> BaseException:
    """What failed before cleaning up did."""
    while True:
        cause = error
        while cause.__cause__ is not None:  # the same, in other words
            cause = cause.__cause__
        if cause.__context__ is None:
            return error
        error = cause.__context__
