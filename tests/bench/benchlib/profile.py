# SPDX-License-Identifier: Apache-2.0
"""Where a machine's CPUs are, by perf's timer: it works without counters of hardware, in an emulated machine too."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from benchlib import BenchError, stages

_FREQUENCY = "499"  # Hz; no multiple of the tick's
SECONDS = 300  # perf on an emulated machine looks for its symbols


@dataclass
class Profile:
    functions: str  # shares by program, object and symbol
    stages: dict[str, float]  # parts of all CPUs' time


class Recording:
    """Of the next `seconds`; looked at when they are over."""

    def __init__(self, seconds: float, scratch: Path):
        self._data = scratch / "perf.data"
        options = ["--all-cpus", "--event=cpu-clock", f"--freq={_FREQUENCY}", "--no-buildid", "--no-buildid-cache", "-g"]
        self._record = _perf("record", *options, f"--output={self._data}", "--", "sleep", str(seconds))

    def wait(self) -> None:
        _output(self._record)

    def profile(self) -> Profile:
        """After wait()."""
        report = ["--stdio", "--no-children", "--call-graph=none", "--sort=comm,dso,sym", "--percent-limit=0.3"]
        functions = _output(_perf("report", *report, f"--input={self._data}"))
        script = _output(_perf("script", "--fields=comm,ip,sym,dso", "--no-inline", f"--input={self._data}"))
        return Profile(functions, stages.shares(script))


def _perf(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["perf", *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def _output(perf: subprocess.Popen[str]) -> str:
    try:
        output, errors = perf.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired as error:
        perf.kill()
        perf.communicate()
        raise BenchError(f"{' '.join(perf.args[:2])}: not within {SECONDS} s") from error
    if perf.returncode != 0:
        raise BenchError(f"{' '.join(perf.args[:2])}: {errors}")
    return output
