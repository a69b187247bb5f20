#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Which lines of the readers of foreign bytes the tests of this machine and the committed fuzz inputs reach.

  scripts/coverage.py               a line for each reader; fails if one is reached less than --least percent of
  scripts/coverage.py --all         every file of src
  scripts/coverage.py --show FILE   FILE with the number of times each line ran

Takes the package llvm-19, a build of its own (build/coverage) and a few minutes. Processes that a test kills do not count.
"""

import argparse
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fuzz

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build/coverage"
RAW, MERGED = BUILD / "raw", BUILD / "merged.profdata"
TESTS = ("unit_tests", "thread_tests", "hostile_tests", "contract_tests", "storage_tests")
READERS = {
    "connection requests, INFO": ["src/transport/rtrs/handshake.cc"],
    "requests in chunks, answers": [
        "src/transport/rtrs/server_connection.cc", "src/transport/rtrs/client_connection.cc",
        "src/server/dispatcher.cc", "src/server/disk_request.cc", "src/server/session_peer.cc",
    ],
    "names of devices": ["src/server/export_path.cc"],
    "NBD requests and replies": ["src/client/nbd_socket.cc", "src/client/block_queue.cc", "src/client/block_request.cc"],
    "netlink, sysfs": ["src/client/nbd_answer.cc", "src/client/nbd_sysfs.cc"],
    "the control socket": [
        "src/common/control/messages.cc", "src/common/control/server.cc", "src/common/control/client.cc",
        "src/common/control/verbs.cc", "src/common/control/admin_verbs.cc", "src/common/control/event_log.cc",
    ],
    "configuration, words": [
        "src/common/text_file.cc", "src/common/config_file.cc", "src/common/metrics_address.cc", "src/server/config_file.cc",
        "src/server/limit_options.cc", "src/client/config_file.cc", "src/client/rnbdtab.cc", "src/client/map_words.cc",
        "src/client/path_words.cc",
    ],
    "state files": ["src/common/control/state_file.cc", "src/client/persistent_mappings.cc", "src/server/named_exports.cc", "src/server/export_state.cc"],
    "what a dead process left": [
        "src/client/journal_recovery.cc", "src/client/block_resume.cc", "src/client/device_file.cc",
        "src/client/left_behind.cc", "src/client/descriptor_store.cc",
    ],
}  # fmt: skip


def must(*command: object, **more) -> subprocess.CompletedProcess:
    done = subprocess.run([str(word) for word in command], cwd=ROOT, capture_output=True, text=True, errors="replace", **more)
    if done.returncode != 0:
        sys.exit(f"{' '.join(str(word) for word in command)}\n{(done.stdout + done.stderr)[-4000:]}")
    return done


def run(name: str, *words: object) -> None:
    # A pattern for each process: some tests fork.
    must(BUILD / "bin" / name, *words, env=os.environ | {"LLVM_PROFILE_FILE": f"{RAW}/{name}-%p.profraw"})


def run_fuzzer(name: str) -> None:
    inputs = BUILD / "inputs" / name
    inputs.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(fuzz.committed(name)[0]):
        (inputs / str(number)).write_bytes(data)
    run(f"fuzz_{name}", "-runs=0", inputs)


def measure() -> list[Path]:
    """Builds and runs everything; the programs."""
    fuzzers = fuzz.names()
    programs = [*TESTS, *(f"fuzz_{name}" for name in fuzzers)]
    must("cmake", "--preset", "coverage")
    must("cmake", "--build", "--preset", "coverage", "--target", *programs)
    shutil.rmtree(RAW, ignore_errors=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = [pool.submit(run, name) for name in TESTS] + [pool.submit(run_fuzzer, name) for name in fuzzers]
        for job in jobs:
            job.result()
    must("llvm-profdata-19", "merge", "-sparse", "-o", MERGED, *sorted(RAW.iterdir()))
    return [BUILD / "bin" / program for program in programs]


def lines(programs: list[Path], files: list[str]) -> dict[str, tuple[int, int]]:
    """Of each file: lines that can run, and those that did not."""
    objects = [word for program in programs[1:] for word in ("-object", program)]
    done = must("llvm-cov-19", "report", programs[0], *objects, f"-instr-profile={MERGED}", *(ROOT / file for file in files))
    found = {}
    for line in done.stdout.splitlines():
        words = line.split()
        if len(words) > 9 and words[0].endswith((".cc", ".h")):
            file = next((each for each in files if each.endswith(words[0])), words[0])
            found[file] = (int(words[7]), int(words[8]))
    return found


def percent(total: int, missed: int) -> float:
    return 100 * (total - missed) / total if total else 100


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/coverage.py", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--show", metavar="FILE")
    parser.add_argument("--least", type=float, default=95, metavar="PERCENT")
    given = parser.parse_args()
    programs = measure()
    if given.show:
        objects = [word for program in programs[1:] for word in ("-object", program)]
        print(must("llvm-cov-19", "show", programs[0], *objects, f"-instr-profile={MERGED}", ROOT / given.show).stdout)
        return 0
    if given.all:
        files = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "src").rglob("*.cc"))
        for file, (total, missed) in lines(programs, files).items():
            print(f"{percent(total, missed):5.1f} %  {file}")
        return 0
    low = []
    found = lines(programs, [file for files in READERS.values() for file in files])
    for what, files in READERS.items():
        for file in files:
            total, missed = found.get(file, (0, 0))
            print(f"{percent(total, missed):5.1f} %  {total:4} lines  {file}  ({what})")
            if percent(total, missed) < given.least or total == 0:
                low.append(file)
    total = sum(each[0] for each in found.values())
    missed = sum(each[1] for each in found.values())
    print(f"{percent(total, missed):5.1f} %  {total:4} lines  all of them")
    if low:
        print(f"below {given.least:g} %: {', '.join(low)}", file=sys.stderr)
    return 1 if low else 0


if __name__ == "__main__":
    sys.dont_write_bytecode = True
    sys.exit(main())
