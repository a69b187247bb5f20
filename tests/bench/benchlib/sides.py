# SPDX-License-Identifier: Apache-2.0
"""The server's half of the comparison: on this machine, or on another one that shares a directory with it.

Across machines each call is a file `ask.N` with a verb and its argument, answered by `answer.N`.
"""

import json
import os
import time
from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from benchlib import BenchError, machine, perftest, syscalls
from benchlib.counters import Counters, of_machine, of_processes
from benchlib.machine import PATIENCE_SECONDS, Program, wait_until
from benchlib.peers import Peer
from benchlib.profile import SECONDS, Profile, Recording


class Server(ABC):
    is_far: bool  # on another machine than the client

    @abstractmethod
    def serve(self, peer: str) -> None: ...

    @abstractmethod
    def withdraw(self) -> None: ...

    @abstractmethod
    def spent(self) -> Counters:
        """By the peer's process, if it has one, and by the machine if it is another than the client's."""

    @abstractmethod
    def start_perftest(self, *words: str) -> None:
        """The listening end of a test; it ends by itself. One at a time."""

    @abstractmethod
    def start_counting(self) -> None:
        """Of system calls, on its machine."""

    @abstractmethod
    def forget_calls(self) -> None: ...

    @abstractmethod
    def calls(self) -> Counter[str] | None:
        """By the peer's process, if it has one, as syscalls.so_far()."""

    @abstractmethod
    def start_recording(self, seconds: float) -> None:
        """Where its machine's CPUs are for so long."""

    @abstractmethod
    def wait_for_recording(self) -> None: ...

    @abstractmethod
    def profile(self) -> Profile:
        """What was recorded."""


class HereServer(Server):
    is_far = False

    def __init__(self, peers: dict[str, Peer], scratch: Path):
        self._peers = peers
        self._scratch = scratch
        self.peer: Peer | None = None
        self._recording: Recording | None = None

    def serve(self, peer: str) -> None:
        self.peer = self._peers[peer]
        self.peer.serve()

    def withdraw(self) -> None:
        self.peer.withdraw()
        self.peer = None

    def spent(self) -> Counters:
        return of_processes({"server": [self.peer.server.pid]} if self.peer.server else {})

    def start_perftest(self, *words: str) -> None:
        program = Program(self._scratch / "perftest.log", *words, *perftest.device_words())
        program.wait_until(lambda: machine.is_listening(perftest.PORT))

    def start_counting(self) -> None:
        syscalls.start_counting()

    def forget_calls(self) -> None:
        syscalls.forget()

    def calls(self) -> Counter[str] | None:
        return syscalls.so_far(self.peer.server.pid) if self.peer.server else None

    def start_recording(self, seconds: float) -> None:
        self._recording = Recording(seconds, self._scratch)

    def wait_for_recording(self) -> None:
        self._recording.wait()

    def profile(self) -> Profile:
        return self._recording.profile()


class FarServer(Server):
    """Asks the machine that runs answer_for_ever()."""

    is_far = True

    def __init__(self, directory: Path):
        self._directory = directory
        self._number = 0

    def serve(self, peer: str) -> None:
        self._ask("serve", peer)

    def withdraw(self) -> None:
        self._ask("withdraw")

    def spent(self) -> Counters:
        return Counters(**self._ask("spent"))

    def start_perftest(self, *words: str) -> None:
        self._ask("start_perftest", *words)

    def start_counting(self) -> None:
        self._ask("start_counting")

    def forget_calls(self) -> None:
        self._ask("forget_calls")

    def calls(self) -> Counter[str] | None:
        counted = self._ask("calls")
        return None if counted is None else Counter(counted)

    def start_recording(self, seconds: float) -> None:
        self._ask("start_recording", seconds)

    def wait_for_recording(self) -> None:
        self._ask("wait_for_recording", patience=SECONDS)

    def profile(self) -> Profile:
        return Profile(**self._ask("profile", patience=3 * SECONDS))

    def _ask(self, verb: str, *words: str | float, patience: float = 2 * PATIENCE_SECONDS) -> dict | None:
        self._number += 1
        _put(self._directory / f"ask.{self._number}", [verb, *words])
        answer = self._directory / f"answer.{self._number}"
        wait_until(f"the server answers to {verb} {' '.join(map(str, words))}", answer.exists, patience)
        said = json.loads(answer.read_text())
        if "error" in said:
            kind = syscalls.Full if said["full"] else BenchError
            raise kind(f"on the server's machine: {said['error']}")
        return said["value"]


def answer_for_ever(directory: Path, server: HereServer) -> None:
    """The server's machine, until somebody ends it."""
    number = 0
    while True:
        number += 1
        question = directory / f"ask.{number}"
        while not question.exists():
            time.sleep(0.005)
        verb, *words = json.loads(question.read_text())
        try:
            answer = {"value": _obey(server, verb, words)}
        except (BenchError, OSError) as error:
            answer = {"error": str(error), "full": isinstance(error, syscalls.Full)}
        _put(directory / f"answer.{number}", answer)


def _obey(server: HereServer, verb: str, words: list[str]) -> dict | None:
    if verb == "spent":
        return of_machine("server machine").together(server.spent()).as_json()
    if verb == "profile":
        return asdict(server.profile())
    return getattr(server, verb)(*words)


def _put(path: Path, content: list | dict) -> None:
    """Whole or not at all, for who polls."""
    new = path.with_suffix(".new" + path.suffix)
    new.write_text(json.dumps(content))
    os.rename(new, path)
