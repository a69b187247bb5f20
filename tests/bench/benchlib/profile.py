# SPDX-License-Identifier: Apache-2.0
"""Where a machine's CPUs are, by perf's timer: it works without counters of hardware, in an emulated machine too."""

import signal
import subprocess
from pathlib import Path

from benchlib import BenchError, machine

_FREQUENCY = "499"  # Hz; no multiple of the tick's


class Profile:
    """Samples while it is entered; leaves NAME.txt in the directory: shares by program, object and symbol."""

    def __init__(self, directory: Path, name: str):
        self._data = directory / f"{name}.perf"
        self._text = directory / f"{name}.txt"
        self._process: subprocess.Popen | None = None

    def __enter__(self) -> "Profile":
        words = ["perf", "record", "--all-cpus", "--event=cpu-clock", f"--freq={_FREQUENCY}", f"--output={self._data}"]
        self._process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        return self

    def __exit__(self, *_exception) -> None:
        self._process.send_signal(signal.SIGINT)
        _, errors = self._process.communicate(timeout=machine.PATIENCE_SECONDS)
        if not self._data.exists():
            raise BenchError(f"perf: {errors.decode()}")
        report = machine.run("perf", "report", "--stdio", "--sort=comm,dso,sym", "--percent-limit=0.3", f"--input={self._data}")
        self._text.write_text(report + "\n")
        self._data.unlink()
