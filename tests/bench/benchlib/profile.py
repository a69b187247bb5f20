# SPDX-License-Identifier: Apache-2.0
"""Where a machine's CPUs are, by perf's timer: it works without counters of hardware, in an emulated machine too."""

import signal
import subprocess
from pathlib import Path

from benchlib import BenchError

_FREQUENCY = "499"  # Hz; no multiple of the tick's
_SECONDS = 300  # perf on an emulated machine looks for its symbols


class Profile:
    """Samples while it is entered; then report() says what it saw."""

    def __init__(self, scratch: Path):
        self._data = scratch / "perf.data"
        self._process: subprocess.Popen | None = None

    def __enter__(self) -> "Profile":
        words = ["perf", "record", "--all-cpus", "--event=cpu-clock", f"--freq={_FREQUENCY}", "--no-buildid"]
        words += ["--no-buildid-cache", f"--output={self._data}"]
        self._process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        return self

    def __exit__(self, *_exception) -> None:
        self._process.send_signal(signal.SIGINT)
        _, errors = self._process.communicate(timeout=_SECONDS)
        if not self._data.exists():
            raise BenchError(f"perf: {errors.decode()}")

    def report(self) -> str:
        """Shares by program, object and symbol."""
        words = ["perf", "report", "--stdio", "--sort=comm,dso,sym", "--percent-limit=0.3", f"--input={self._data}"]
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
        if done.returncode != 0:
            raise BenchError(f"perf report: {done.stderr}")
        return done.stdout
