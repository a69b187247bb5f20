# SPDX-License-Identifier: Apache-2.0
"""What peers need of the machine they run on: commands, kernel modules, programs, waiting with a bound."""

import errno
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchlib import BenchError

PATIENCE_SECONDS = 60


@dataclass(frozen=True)
class Place:
    """Where a peer runs, for both of its halves alike."""

    address: str  # the server's
    disk: str  # the server's block device
    cpus: int
    programs: Path  # rnbd-server, rnbd-client
    modules: Path | None  # the kernel's RNBD, if it has to be inserted by hand
    scratch: Path  # logs and sockets of this machine


def run(*words: str) -> str:
    """What the command prints. Errors: its own words."""
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise BenchError(f"{' '.join(words)}: not within {PATIENCE_SECONDS} s") from error
    if done.returncode != 0:
        raise BenchError(f"{' '.join(words)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout.strip()


def wait_until(what: str, condition: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise BenchError(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.02)


def succeeds(*words: str) -> bool:
    try:
        run(*words)
    except BenchError:
        return False
    return True


def write(path: Path | str, text: str) -> None:
    try:
        Path(path).write_text(text)
    except OSError as error:
        raise BenchError(f"{path}: {error.strerror}, told {text!r}") from error


def write_when_free(path: Path | str, text: str) -> None:
    """write(), again while the kernel is busy."""
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return write(path, text)
        except BenchError as error:
            if error.__cause__.errno != errno.EBUSY or time.monotonic() > end:
                raise
        time.sleep(0.02)


def bytes_of(disk: str) -> int:
    with open(disk, "rb") as device:
        return device.seek(0, os.SEEK_END)


def is_loaded(module: str) -> bool:
    return Path("/sys/module", module.replace("-", "_")).exists()


def load(*modules: str) -> None:
    """modprobe each; "nbd nbds_max=4" gives it a parameter."""
    for each in modules:
        run("modprobe", *each.split())


def unload(*modules: str) -> None:
    """In this order. What used them may still be on its way out."""
    for each in modules:
        wait_until(f"{each} can be removed", lambda each=each: not is_loaded(each) or succeeds("rmmod", each))


def has_module(name: str) -> bool:
    return is_loaded(name) or succeeds("modinfo", name)


def has_program(name: str) -> bool:
    return shutil.which(name, path="/usr/sbin:/sbin:/usr/bin:/bin:/usr/local/bin") is not None


def is_listening(port: int) -> bool:
    """Whether anybody does, by TCP on IPv4."""
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return any(row[1].endswith(f":{port:04X}") and row[3] == "0A" for row in rows)


class Program:
    """A process with a log, ended by stop()."""

    def __init__(self, log: Path, *words: str):
        self.log = log
        self.words = words
        with open(log, "ab") as output:
            self._process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )
        self.pid = self._process.pid

    def is_running(self) -> bool:
        return self._process.poll() is None

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Errors: it ended instead, or took too long; with the end of its log."""
        try:
            wait_until(f"{self.words[0]} is ready", lambda: not self.is_running() or condition())
        except BenchError as error:
            raise BenchError(f"{error}: {self.last_words()}") from error
        if not self.is_running():
            raise BenchError(f"{self.words[0]} ended: {self.last_words()}")

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise BenchError(f"{self.words[0]} does not end within {PATIENCE_SECONDS} s") from error

    def last_words(self) -> str:
        return " / ".join(self.log.read_text().splitlines()[-3:])
