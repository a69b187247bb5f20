#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Builds and runs the fuzzers of tests/fuzz, each for some seconds, from the inputs that are committed.

  scripts/fuzz.py                       all of them, 10 s each
  scripts/fuzz.py --seconds 3600 server nbd
  scripts/fuzz.py --replay server FILE  one input, with what it leads to
  scripts/fuzz.py --keep server         adds what was found by earlier runs to the committed inputs, and thins them out

A fuzzer that finds something leaves the input in build/fuzz/found and says how to replay it. Committed inputs are
tests/fuzz/corpus/NAME: one a line in base64; those behind a comment (#) are kept for ever.
"""

import argparse
import base64
import os
import pathlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

ROOT = pathlib.Path(__file__).resolve().parent.parent
CORPUS = ROOT / "tests/fuzz/corpus"
BUILD = ROOT / "build/fuzz"
FOUND = BUILD / "found"
LONGEST_INPUT = 512  # bytes; what can be said fits
SANITIZERS = {"UBSAN_OPTIONS": "print_stacktrace=1", "ASAN_OPTIONS": "detect_leaks=1"}


def names() -> list[str]:
    return sorted(path.stem for path in (ROOT / "tests/fuzz").glob("*.cc"))


def build(wanted: list[str], seconds: int) -> None:
    targets = [f"fuzz_{name}" for name in wanted]
    # What runs for moments only is not worth the compiler's care, which takes half of the build's time.
    level = f"-DRNBD_SANITIZED_LEVEL={int(seconds >= 10)}"
    for command in (["cmake", "--preset", "fuzz", level], ["cmake", "--build", "--preset", "fuzz", "--target", *targets]):
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode != 0:
            sys.exit(done.stdout[-6000:])


def committed(name: str) -> tuple[list[bytes], list[str]]:
    """The inputs, and the lines among them that are kept for ever, comments included."""
    inputs, kept, forever = [], [], False
    for line in (CORPUS / name).read_text().splitlines():
        if line.startswith("#"):
            forever = True
            kept.append(line)
            continue
        inputs.append(base64.b64decode(line))
        if forever:
            kept.append(line)
    return inputs, kept


def unpack(name: str) -> pathlib.Path:
    """The committed inputs as files, beside what earlier runs have found."""
    directory = BUILD / "corpus" / name
    directory.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(committed(name)[0]):
        (directory / f"committed-{number}").write_bytes(data)
    return directory


def fuzzer(name: str, *words: object) -> subprocess.CompletedProcess:
    command = [BUILD / "bin" / f"fuzz_{name}", f"-artifact_prefix={FOUND}/{name}-", *words]
    return subprocess.run([str(word) for word in command], cwd=ROOT, env=os.environ | SANITIZERS,
                          capture_output=True, text=True, errors="replace")  # fmt: skip


def run(name: str, seconds: int) -> bool:
    """True if it found nothing."""
    done = fuzzer(name, unpack(name), f"-max_total_time={seconds}", f"-max_len={LONGEST_INPUT}", "-timeout=20",
                  "-rss_limit_mb=4096", "-verbosity=1", "-print_final_stats=1")  # fmt: skip
    executed = [line.split()[-1] for line in done.stderr.splitlines() if "number_of_executed_units" in line]
    if done.returncode == 0:
        print(f"{name}: {executed[0]} inputs, nothing found", flush=True)
        return True
    written = [line.split()[-1] for line in done.stderr.splitlines() if "Test unit written to" in line]
    print(done.stderr[-6000:], file=sys.stderr)
    print(f"{name}: FOUND: scripts/fuzz.py --replay {name} {written[-1] if written else '?'}", flush=True)
    return False


def keep(name: str) -> None:
    thin = BUILD / "thin" / name
    thin.mkdir(parents=True, exist_ok=True)
    for old in thin.iterdir():
        old.unlink()
    done = fuzzer(name, "-merge=1", f"-max_len={LONGEST_INPUT}", thin, unpack(name))
    if done.returncode != 0:
        sys.exit(done.stderr[-3000:])
    lines = sorted((base64.b64encode(file.read_bytes()).decode() for file in thin.iterdir()), key=lambda x: (len(x), x))
    kept = committed(name)[1]
    lines = [line for line in lines if line not in kept]
    (CORPUS / name).write_text("".join(f"{line}\n" for line in lines + kept))
    print(f"{name}: {len(lines)} inputs")


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/fuzz.py", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--seconds", type=int, default=10, help="for each fuzzer")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--replay", nargs=2, metavar=("NAME", "FILE"))
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(names()))
    given = parser.parse_args()
    wanted = given.replay[:1] if given.replay else given.names or names()
    if unknown := set(wanted) - set(names()):
        parser.error(f"no fuzzer is called {', '.join(sorted(unknown))}: there are {', '.join(names())}")
    build(wanted, given.seconds)
    FOUND.mkdir(parents=True, exist_ok=True)
    if given.replay:
        done = fuzzer(wanted[0], given.replay[1])
        print(done.stderr)
        return 1 if done.returncode else 0
    if given.keep:
        for name in wanted:
            keep(name)
        return 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return 0 if all(list(pool.map(lambda name: run(name, given.seconds), wanted))) else 1


if __name__ == "__main__":
    sys.exit(main())
