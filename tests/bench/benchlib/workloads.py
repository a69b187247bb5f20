# SPDX-License-Identifier: Apache-2.0
"""What fio does to a device: the list, and the names by which one picks from it."""

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatch

from benchlib import BenchError

KIB = 1024


@dataclass(frozen=True)
class Workload:
    kind: str
    block: int  # bytes
    depth: int  # of each job
    jobs: int

    @property
    def name(self) -> str:
        size = f"{self.block // KIB}k" if self.block < KIB * KIB else f"{self.block // KIB // KIB}m"
        return f"{size}-{self.kind}-q{self.depth}-j{self.jobs}"

    def is_small(self) -> bool:
        return self.block == 4 * KIB

    def fio_words(self, device_bytes: int) -> list[str]:
        """Each job has a part of the device to itself."""
        part = device_bytes // self.jobs // self.block * self.block
        words = [f"--bs={self.block}", f"--iodepth={self.depth}", f"--numjobs={self.jobs}"]
        words += [f"--size={part}", f"--offset_increment={part}", f"--rw={_FIO_MODES[self.kind]}"]
        return [*words, "--rwmixread=70"] if self.kind == "mixed" else words


_FIO_MODES = {
    "randread": "randread",
    "randwrite": "randwrite",
    "read": "read",
    "write": "write",
    "mixed": "randrw",
}

_SHAPES = (
    ("randread", 4 * KIB, 1),
    ("randwrite", 4 * KIB, 1),
    ("randread", 4 * KIB, 32),
    ("randwrite", 4 * KIB, 32),
    ("mixed", 4 * KIB, 32),
    ("read", 128 * KIB, 8),
    ("write", 128 * KIB, 8),
    ("read", KIB * KIB, 8),
    ("write", KIB * KIB, 8),
)

ALL = tuple(Workload(*shape, jobs) for jobs in (1, 4) for shape in _SHAPES)


def pick(what: str, patterns: str, names: Iterable[str]) -> list[str]:
    """Those of `names` that match one of the patterns, which are joined by commas. Errors: a pattern that none does."""
    names = list(names)
    wanted = patterns.split(",")
    for pattern in wanted:
        if not any(fnmatch(name, pattern) for name in names):
            raise BenchError(f"no {what} is called {pattern}; there are {', '.join(names)}")
    return [name for name in names if any(fnmatch(name, pattern) for pattern in wanted)]
