# SPDX-License-Identifier: Apache-2.0
"""What the RDMA device can do without any block device: perftest's ib_write_lat and ib_write_bw."""

from dataclasses import asdict, dataclass

from benchlib import BenchError, machine, perftest
from benchlib.sides import Server

_LATENCY_COLUMN = 4  # t_typical, in µs
_BANDWIDTH_COLUMN = 3  # average, in MB/s
_TESTS = (
    ("ib_write_lat", 16, 1000, _LATENCY_COLUMN, "µs"),
    ("ib_write_lat", 4096, 1000, _LATENCY_COLUMN, "µs"),
    ("ib_write_bw", 4096, 1000, _BANDWIDTH_COLUMN, "MB/s"),
    ("ib_write_bw", 131072, 200, _BANDWIDTH_COLUMN, "MB/s"),
    ("ib_write_bw", 1048576, 50, _BANDWIDTH_COLUMN, "MB/s"),
)


@dataclass
class Figure:
    program: str
    size: int  # bytes of a message
    value: float
    unit: str

    def as_json(self) -> dict:
        return asdict(self)


def limits(server: Server, address: str) -> list[Figure]:
    return [Figure(program, size, _run(server, address, program, size, times, column), unit)
            for program, size, times, column, unit in _TESTS]  # fmt: skip


def _run(server: Server, address: str, program: str, size: int, times: int, column: int) -> float:
    words = [program, "-F", "-s", str(size), "-n", str(times)]
    server.start_perftest(*words)
    said = machine.run(*words, *perftest.device_words(), address)
    rows = [line.split() for line in said.splitlines() if line.split()[:1] == [str(size)]]
    if not rows:
        raise BenchError(f"{program} said {said!r}")
    return float(rows[-1][column])
