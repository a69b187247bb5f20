# SPDX-License-Identifier: Apache-2.0
"""One measurement: fio on a device, and what was moved and spent within a window of its run.

fio starts and ends outside of the window, so that its start-up, long on an emulated machine, is in no figure. Bytes are
the kernel's count for fio's process (/proc/PID/io), the same for every kind of device.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchlib import BenchError
from benchlib.counters import Counters, of_processes
from benchlib.machine import PATIENCE_SECONDS, wait_until
from benchlib.workloads import Workload

_SETTLE_SECONDS = 0.3
_LONGER_THAN_ANY_WINDOW = "86400"


@dataclass
class Sample:
    ios: int
    seconds: float
    p50_us: float  # latency from submission on, over the whole run
    p99_us: float
    spent: Counters

    def as_json(self) -> dict:
        return asdict(self)


class Fio:
    """fio at work; `with` it, then stop()."""

    def __init__(self, nodes: Sequence[str], workload: Workload, scratch: Path):
        """`nodes` are of one size, and share the depth of each job."""
        self._output = scratch / "fio.json"
        self._started = scratch / "fio.started"  # a line of each job
        self._started.write_text("")
        self._workload = workload
        with open(nodes[0], "rb") as device:
            size = device.seek(0, os.SEEK_END) * len(nodes)
        words = ["fio", f"--name={workload.name}", f"--filename={':'.join(nodes)}", "--direct=1", "--ioengine=libaio", "--thread"]
        words += ["--time_based", f"--runtime={_LONGER_THAN_ANY_WINDOW}", "--norandommap", "--group_reporting"]
        # Some peers do all of the work inside of the submission.
        words += ["--lat_percentiles=1", "--clat_percentiles=0"]
        words += ["--output-format=json", f"--output={self._output}", f"--exec_prerun=(echo >> {self._started})"]
        words += workload.fio_words(size)
        self._process = subprocess.Popen(
            words, cwd=scratch, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    def __enter__(self) -> "Fio":
        wait_until("fio has started all jobs", lambda: self._process.poll() is not None or self._has_started())
        if self._process.poll() is not None:
            raise BenchError(f"fio ended: {self._process.stdout.read().decode()}")
        time.sleep(_SETTLE_SECONDS)
        return self

    def __exit__(self, *_exception) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._wait_for_end()

    def ios(self) -> int:
        return self._bytes() // self._workload.block

    def spent(self) -> Counters:
        return of_processes({"fio": [self._process.pid]})

    def stop(self) -> tuple[float, float]:
        """Ends the load. Returns median and 99th percentile of the latency, in µs."""
        self._process.send_signal(signal.SIGINT)
        self._wait_for_end()
        text = self._output.read_text()
        try:
            job = json.loads(text[text.index("{") :])["jobs"][0]
        except ValueError as error:
            raise BenchError(f"fio: {text}") from error
        if job["error"]:
            raise BenchError(f"fio: {os.strerror(job['error'])}")
        return _percentiles(job)

    def _wait_for_end(self) -> None:
        try:
            self._process.communicate(timeout=PATIENCE_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise BenchError(f"fio waits for an answer that has not come within {PATIENCE_SECONDS} s") from error

    def _has_started(self) -> bool:
        return len(self._started.read_text()) == self._workload.jobs

    def _bytes(self) -> int:
        lines = Path(f"/proc/{self._process.pid}/io").read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith(("read_bytes", "write_bytes")))


def _percentiles(job: dict) -> tuple[float, float]:
    """Of the direction that moved most."""
    direction = max(("read", "write"), key=lambda name: job[name]["total_ios"])
    of = job[direction]["lat_ns"]["percentile"]
    return of["50.000000"] / 1000, of["99.000000"] / 1000


def measure(fio: Fio, seconds: float, spent: Callable[[], Counters]) -> Sample:
    ios, start, before = fio.ios(), time.monotonic(), spent().together(fio.spent())
    time.sleep(seconds)
    ios, elapsed, after = fio.ios() - ios, time.monotonic() - start, spent().together(fio.spent())
    p50, p99 = fio.stop()
    if ios == 0:
        raise BenchError("not one request was finished")
    return Sample(ios, elapsed, p50, p99, after.since(before))
