# SPDX-License-Identifier: Apache-2.0
"""What an I/O costs as there is more of something: devices, sessions, clients, queues, paths. The load is the same all
along, spread over what there is, or (`busy-`) each brings its own; this project's daemons only, all on this machine. A
session is what a server has of a client; a client is a daemon, as of a host, but shares its CPUs with the others here.
"""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchlib import BenchError, machine
from benchlib.counters import Counters, of_machine, of_processes
from benchlib.load import Fio, measure
from benchlib.machine import Place, Program
from benchlib.workloads import KIB, Workload

_DEPTH = 64
KINDS = ("randread", "randwrite")
_SETTLE_SECONDS = 1.0  # udev looks at what is new
_IDLE_SECONDS = 4.0
MAPPING = "mapping"  # no series: MAPPED_TOGETHER devices, and how long that takes
MAPPED_TOGETHER = 100


@dataclass(frozen=True)
class Point:
    """How much there is. Disks are /dev/ram0 and its followers."""

    devices: int = 1  # in all, dealt out to the clients, and then to the sessions
    sessions: int = 1  # of each client
    clients: int = 1
    queues: int = 0  # of each session; 0: as many as there are CPUs
    paths: int = 1
    depth: int = _DEPTH  # I/Os at a time, of each job
    jobs: int = 1


BUSY = "busy-"
BUSY_DEPTH = 8
SERIES = {
    "devices": [Point(devices=number) for number in (1, 4, 16, 64)],
    "busy-devices": [Point(devices=number, depth=BUSY_DEPTH * number) for number in (1, 4, 16, 64)],
    "sessions": [Point(devices=16, sessions=number) for number in (1, 4, 16)],
    "busy-sessions": [Point(devices=number, sessions=number, depth=BUSY_DEPTH * number) for number in (1, 4, 16)],
    "busy-clients": [Point(devices=number, clients=number, depth=BUSY_DEPTH * number) for number in (1, 4, 16)],
    "queues": [Point(devices=4, queues=number) for number in (1, 2, 4, 8)],
    "busy-queues": [Point(queues=number, depth=BUSY_DEPTH, jobs=number) for number in (1, 2, 4, 8)],
    "paths": [Point(devices=4, paths=number) for number in (1, 2, 4)],
}


def much(series: str, point: Point) -> int:
    return getattr(point, series.removeprefix(BUSY))


class Daemons:
    """A server and clients; ended by `with`."""

    def __init__(self, place: Place, addresses: list[str], queues: int = 0, clients: int = 1, serve: bool = True):
        self._place = place
        self._serve = serve  # or there is a server somewhere
        self._addresses = addresses
        self._prefix = ["taskset", "--cpu-list", f"0-{queues - 1}"] if queues else []
        self._clients = range(clients)
        self._ending = ExitStack()
        self._pids: dict[str, list[int]] = {"client": [], "server": []}

    def __enter__(self) -> "Daemons":
        try:
            if self._serve:
                self._start("server", 0)
            for number in self._clients:
                self._start("client", number, "--state-dir", "")
        except BenchError:
            self._ending.close()
            raise
        return self

    def __exit__(self, *_exception) -> None:
        self._ending.close()

    def map_words(self, disk: int, client: int = 0, session: int = 0, paths: int = 1) -> list[str]:
        """The command that maps /dev/ram`disk`; it prints the node."""
        words = [f"path=ip:{address}" for address in self._addresses[:paths]]
        words += [f"sessname={_session(client, session)}", f"device_path=/dev/ram{disk}"]
        return self._command("client", client, "map", *words)

    def wait_for_paths(self, number: int) -> None:
        """Of each client."""
        for client in self._clients:
            words = self._command("client", client, "path", "list", "--json")
            machine.wait_until(f"{number} paths are up", lambda: machine.run(*words).count('"connected"') == number)

    def choose(self, policy: str) -> None:
        machine.run(*self._command("client", 0, "path", "policy", _session(0, 0), policy))

    def unmap(self, node: str, client: int = 0) -> None:
        machine.run(*self._command("client", client, "unmap", node))

    def spent(self) -> Counters:
        """By role: of all clients together."""
        return of_processes(self._pids)

    def _command(self, role: str, number: int, *words: str) -> list[str]:
        program = self._place.programs / f"rnbd-{role}"
        return [str(program), *words, "--control", str(self._place.scratch / f"{role}{number}.sock")]

    def _start(self, role: str, number: int, *options: str) -> None:
        log = self._place.scratch / f"{role}{number}.log"
        program = Program(log, *self._prefix, *self._command(role, number, "daemon", *options))
        self._ending.callback(program.stop)
        self._pids[role].append(program.pid)
        program.wait_until(lambda: machine.succeeds(*self._command(role, number, "list")))


def _session(client: int, number: int) -> str:
    return f"client{client}-{number}"


@dataclass
class Scale:
    place: Place
    addresses: list[str]  # of the server: one for each path
    seconds: float  # of a window
    rounds: int
    output: Path
    say: Callable[[str], None]
    results: dict = field(default_factory=dict)

    def run(self, names: list[str], where: str) -> None:
        """`where`: what this machine is."""
        series = [name for name in names if name != MAPPING]
        self.results = {"machine": where, "rounds": self.rounds, "seconds": self.seconds, "series": series,
                        "samples": [], "idle": [], "mapping": []}  # fmt: skip
        for number in range(self.rounds if series else 0):
            for name in series:
                points = SERIES[name] if number % 2 == 0 else SERIES[name][::-1]
                for point in points:
                    self._one(name, point)
            self.say(f"round {number + 1} of {self.rounds}")
            self._save()
        if MAPPING in names:
            self._map_many()
        self._save()

    def _save(self) -> None:
        self.output.write_text(json.dumps(self.results, indent=1) + "\n")

    @contextmanager
    def _set_up(self, point: Point) -> Iterator[tuple[Daemons, list[str]]]:
        with Daemons(self.place, self.addresses, point.queues, point.clients) as daemons, ExitStack() as mapped:
            nodes = []
            for disk in range(point.devices):
                client, session = disk % point.clients, disk // point.clients % point.sessions
                nodes.append(machine.run(*daemons.map_words(disk, client, session, point.paths)))
                mapped.callback(daemons.unmap, nodes[-1], client)
            daemons.wait_for_paths(point.sessions * point.paths)
            yield daemons, nodes

    def _one(self, series: str, point: Point) -> None:
        with self._set_up(point) as (daemons, nodes):
            where = {"series": series, "much": much(series, point)}
            if series == "devices":
                self.results["idle"].append({**where, **_idle_cores(daemons)})
            for kind in KINDS:
                workload = Workload(kind, 4 * KIB, point.depth, point.jobs)
                with Fio(nodes, workload, self.place.scratch) as fio:
                    sample = measure(fio, self.seconds, lambda: of_machine("machine").together(daemons.spent()))
                self.results["samples"].append({**where, "kind": kind, **sample.as_json()})

    def _map_many(self) -> None:
        """One after the other, and all at once."""
        for together in (False, True):
            with Daemons(self.place, self.addresses) as daemons:
                machine.run(*daemons.map_words(0))  # so that the session is there
                commands = [daemons.map_words(number) for number in range(1, MAPPED_TOGETHER + 1)]
                began = time.monotonic()
                with ThreadPoolExecutor(MAPPED_TOGETHER if together else 1) as pool:
                    nodes = list(pool.map(lambda words: machine.run(*words), commands))
                row = {"together": together, "seconds": time.monotonic() - began, "devices": len(set(nodes))}
                self.results["mapping"].append(row)
            self.say(f"{MAPPED_TOGETHER} devices mapped, {'together' if together else 'one after the other'}")


def _idle_cores(daemons: Daemons) -> dict[str, float]:
    """CPUs' worth of time that each daemon takes while nobody uses what is mapped."""
    time.sleep(_SETTLE_SECONDS)
    before, began = daemons.spent(), time.monotonic()
    time.sleep(_IDLE_SECONDS)
    spent, seconds = daemons.spent().since(before), time.monotonic() - began
    return {name: cpu / seconds for name, cpu in spent.cpu.items()}
