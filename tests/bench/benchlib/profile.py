# SPDX-License-Identifier: Apache-2.0
"""Where a machine's CPUs are, by perf's timer: it works without counters of hardware, in an emulated machine too."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from benchlib import BenchError, stages

_FREQUENCY = "499"  # Hz; no multiple of the tick's
_SECONDS = 300  # perf on an emulated machine looks for its symbols


@dataclass
class Profile:
    functions: str  # shares by program, object and symbol
    stages: dict[str, float]  # parts of all CPUs' time


def profile(seconds: float, scratch: Path) -> Profile:
    """Of the next `seconds`."""
    data = scratch / "perf.data"
    words = ["record", "--all-cpus", "--event=cpu-clock", f"--freq={_FREQUENCY}", "--no-buildid", "--no-buildid-cache", "-g"]
    _perf(*words, f"--output={data}", "--", "sleep", str(seconds))
    report = ["--stdio", "--no-children", "--call-graph=none", "--sort=comm,dso,sym", "--percent-limit=0.3"]
    functions = _perf("report", *report, f"--input={data}")
    script = _perf("script", "--fields=comm,ip,sym,dso", "--no-inline", f"--input={data}")
    return Profile(functions, stages.shares(script))


def _perf(*words: str) -> str:
    done = subprocess.run(
        ["perf", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_SECONDS, check=False
    )
    if done.returncode != 0:
        raise BenchError(f"perf {words[0]}: {done.stderr}")
    return done.stdout
