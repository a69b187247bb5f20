# SPDX-License-Identifier: Apache-2.0
"""How fast the host's time stamp counter (TSC) runs, so that a guest need not find out.

An emulated processor's TSC is the host's. Left to itself, Linux either does without it (then every clock_gettime is a
system call and a trip into QEMU: 1 to 2 µs instead of 0.05) or measures it against the emulated timer chip while it
boots; on a busy host that went wrong by a factor of ten once, and all of the guest's timeouts with it.
"""

import ctypes
import mmap
import platform
import time

# rdtsc; shl rdx, 32; or rax, rdx; ret: returns the counter, in both calling conventions of x86-64
READ_COUNTER = bytes.fromhex("0f31 48c1e220 4809d0 c3")
INTERVAL_SECONDS = 0.05
TRIES = 50


def khz() -> int | None:
    """The TSC's frequency, to about 10 in a million; None where programs cannot read it. Takes INTERVAL_SECONDS."""
    if platform.machine() != "x86_64":
        return None
    try:
        page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    except OSError:
        return None  # a hardened host
    page.write(READ_COUNTER)
    read_counter = ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
    first_time, first_count = _simultaneous(read_counter)
    time.sleep(INTERVAL_SECONDS)  # the length of the measurement
    second_time, second_count = _simultaneous(read_counter)
    return round((second_count - first_count) / (second_time - first_time) * 1e6)


def _simultaneous(read_counter) -> tuple[float, int]:
    """Clock (ns) and counter at the same moment: of several tries that with the least time around the reading."""
    readings = []
    for _ in range(TRIES):
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW)
        count = read_counter()
        after = time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW)
        readings.append((after - before, (before + after) / 2, count))
    _, moment, count = min(readings)
    return moment, count
