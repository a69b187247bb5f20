#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What fio saw: no errors, and how long the slowest request of each phase took.

latency.py DIRECTORY PHASES FIO.json: DIRECTORY holds fio's logs latency_clat.*.log with times since the epoch. A line
of PHASES is a phase: begin and end in ms since the epoch, the limit in ms, its name. Fails if a request failed or
took longer than its phase's limit.
"""

import json
import sys
from pathlib import Path


def main(directory: str, phases: str, result: str) -> int:
    text = Path(result).read_text()
    errors = [job["error"] for job in json.loads(text[text.index("{") :])["jobs"]]
    requests = []
    for log in Path(directory).glob("latency_clat.*.log"):
        for line in log.read_text().splitlines():
            end, taken, *_ = (int(word) for word in line.split(",")[:2])
            requests.append((end, taken / 1e6))
    print(f"{len(requests)} requests, errors {errors}")
    failed = any(errors) or not requests
    for line in Path(phases).read_text().splitlines():
        begin, end, limit, name = line.split(maxsplit=3)
        begin, end, limit = int(begin), int(end), int(limit)
        of_phase = sorted(taken for when, taken in requests if begin <= when <= end)
        if not of_phase:
            print(f"{name}: no request at all")
            failed = True
            continue
        slowest, usual = of_phase[-1], of_phase[len(of_phase) // 2]
        verdict = "" if slowest <= limit else f"   MORE THAN {limit} ms"
        print(f"{name:36} {len(of_phase):7} requests, median {usual:8.1f} ms, longest {slowest:8.1f} ms{verdict}")
        failed |= slowest > limit
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
