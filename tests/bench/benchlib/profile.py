# SPDX-License-Identifier: Apache-2.0
"""Where a machine's CPUs are, by perf's timer: it works without counters of hardware, in an emulated machine too."""

import subprocess
from pathlib import Path

from benchlib import BenchError

_FREQUENCY = "499"  # Hz; no multiple of the tick's
_SECONDS = 300  # perf on an emulated machine looks for its symbols


def profile(seconds: float, scratch: Path) -> str:
    """Shares by program, object and symbol, of the next `seconds`."""
    data = scratch / "perf.data"
    words = ["record", "--all-cpus", "--event=cpu-clock", f"--freq={_FREQUENCY}", "--no-buildid", "--no-buildid-cache"]
    _perf(*words, f"--output={data}", "--", "sleep", str(seconds))
    return _perf("report", "--stdio", "--sort=comm,dso,sym", "--percent-limit=0.3", f"--input={data}")


def _perf(*words: str) -> str:
    done = subprocess.run(
        ["perf", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_SECONDS, check=False
    )
    if done.returncode != 0:
        raise BenchError(f"perf {words[0]}: {done.stderr}")
    return done.stdout
