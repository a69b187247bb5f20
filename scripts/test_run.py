# SPDX-License-Identifier: Apache-2.0
"""The run behind scripts/test.sh: builds, runs and counts. A line for each step as it ends, then what was skipped and
why, then "N passed, N failed, N skipped".

A case is a test of GoogleTest or unittest, and a step that has none is one. A case that is skipped in one place and
passes in another (on this machine and in a guest, on one disk and on another) is not skipped.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
import xml.etree.ElementTree as ElementTree
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOGS = ROOT / "build/test"
TAIL_LINES = 20
BUILD_SECONDS, TEST_SECONDS = 2400, 900
FUZZ_SECONDS = 2
# What runs beside a guest takes what it leaves. Never a second guest: two at once take longer than one behind the other,
# since their processors wait for each other where the host has not more of them.
ASIDE = ("nice", "-n", "15")
# However nice a compiler is, Linux lets it finish its slice while a guest's processor waits: the guest takes up to three
# times as long. Real-time it does not wait. Two machines may not have that: they would keep each other from the processors.
UNDISTURBED = ("chrt", "--rr", "1")
SANITIZERS = {
    "ASAN_OPTIONS": "detect_leaks=1",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=1",
}
GTEST_PROGRAMS = ("hostile_tests", "storage_tests", "thread_tests", "contract_tests", "sim_tests")  # and unit_tests
UNIT_SHARDS = 4
# What guests and ctest take from the release build. The programs of tests run here are built with sanitizers only, where
# they say more.
RELEASE = ("rnbd-client", "rnbd-server", "rnbd-sim", "reference", "changelog", "cli_test", "hostile_tests", "storage_tests",
           "count_calls", "metrics_sample", "micro_count", "micro_bench", "mutants")  # fmt: skip
THREAD_PROGRAMS = ("storage_tests", "thread_tests")  # the others' tests are turned by one thread
DAEMONS = ("rnbd-client", "rnbd-server")

FUZZER = re.compile(r"^(\w+): (\d+ inputs, nothing found|FOUND)", re.MULTILINE)
GTEST_CASE = re.compile(r"^\[ +(OK|SKIPPED|FAILED) +\] (\S+?)(?:, where .*)? \(\d+ ms\)$")
GTEST_REASON = re.compile(r": Skipped$")
GTEST_TOTAL = re.compile(r"^\[  PASSED  \] (\d+) tests?\.$")
UNITTEST_TOTAL = re.compile(r"^Ran (\d+) tests? in ")
UNITTEST_BAD = re.compile(r"^FAILED \((.*)\)$")


@dataclass
class Cases:
    """What a step's log says."""

    passed: int = 0
    failed: int = 0
    names: set[str] = field(default_factory=set)  # of what passed, as far as the log says
    skipped: dict[str, str] = field(default_factory=dict)  # to the reason

    def text(self) -> str:
        counts = ((self.passed, "passed"), (self.failed, "failed"), (len(self.skipped), "skipped"))
        return ", ".join(f"{count} {word}" for count, word in counts if count)


def read_log(text: str) -> Cases:
    """GoogleTest's and unittest's words in the output of a program or a guest."""
    cases, reason, reason_next, totals = Cases(), "", False, 0
    for line in text.splitlines():
        if reason_next:
            reason, reason_next = line.strip() or "no reason given", False
        if GTEST_REASON.search(line):
            reason_next = True
        elif found := GTEST_CASE.match(line):
            verdict, name = found.groups()
            if verdict == "OK":
                cases.passed += 1
                cases.names.add(name)
            elif verdict == "FAILED":
                cases.failed += 1
            else:
                cases.skipped[name] = reason
        elif found := GTEST_TOTAL.match(line):
            totals += int(found[1])
        elif found := UNITTEST_TOTAL.match(line):
            cases.passed += int(found[1])
        elif found := UNITTEST_BAD.match(line):
            bad = sum(int(number) for number in re.findall(r"=(\d+)", found[1]))
            cases.passed -= bad
            cases.failed += bad
    cases.passed = max(cases.passed, totals)  # --gtest_brief names nothing that passes
    cases.skipped = {name: why for name, why in cases.skipped.items() if name not in cases.names}
    return cases


def read_fuzzers(text: str) -> Cases:
    """What scripts/fuzz.py prints, a line a fuzzer."""
    verdicts = [verdict for _, verdict in FUZZER.findall(text)]
    return Cases(passed=sum(verdict != "FOUND" for verdict in verdicts), failed=verdicts.count("FOUND"))


def read_ctest(report: Path) -> Cases:
    """The JUnit file of a ctest run."""
    cases = Cases()
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        # CMake writes a parameter's value behind the name.
        name, output = case.get("name").split("  # ")[0], case.findtext("system-out") or ""
        inside = read_log(output)
        if case.get("status") == "run":
            cases.passed += 1
            cases.names.add(name)
        elif inside.skipped:
            cases.skipped[name] = next(iter(inside.skipped.values()))
        else:
            cases.failed += 1
    return cases


class Run:
    def __init__(self):
        self.total = Cases()
        self.guest_skips: dict[str, str] = {}
        self.running: set[subprocess.Popen] = set()

    def step(self, name: str, command: list, limit: int, count=None, guest: bool = False, environment=None) -> bool:
        """Runs it with its output in a log. `count` makes Cases of the log's text; without one the step is no test, and
        counts only if it fails."""
        log = LOGS / f"{name.replace(' ', '-')}.log"
        started = time.monotonic()
        code = self._execute(command, log, limit, environment)
        text = log.read_text(errors="replace")
        cases = count(text) if count else Cases()
        if code == 0 and count and cases.passed + cases.failed + len(cases.skipped) == 0:
            cases.passed = 1
        if code != 0 and cases.failed == 0:
            cases.failed = 1
        good = cases.failed == 0
        self._add(cases, guest)
        print(f"{'ok    ' if good else 'FAILED'} {name:<24} {time.monotonic() - started:5.0f} s  {cases.text()}", flush=True)
        if not good:
            tail = "\n".join(f"    {line}" for line in text.splitlines()[-TAIL_LINES:])
            print(f"{tail}\n    {'out of time' if code is None else f'exit code {code}'}; all of it: {log}", flush=True)
        return good

    def cannot(self, name: str, why: str) -> None:
        self.total.failed += 1
        print(f"FAILED {name:<24}     -    not run: {why}", flush=True)

    def finish(self) -> int:
        """Says what did not run, and the sums."""
        total = self.total
        left = {name: why for name, why in total.skipped.items() if name not in total.names}
        for reason in sorted(set(left.values())):
            names = sorted(name for name, why in left.items() if why == reason)
            print(textwrap.fill(f"skipped ({reason}): {', '.join(names)}", 120, subsequent_indent="    "))
        if os.environ.get("CI") == "true":
            for name in sorted(self.guest_skips.keys() & left.keys()):
                print(f"FAILED {name}: guests have what it needs, and in the CI it must run")
                del left[name]
                total.failed += 1
        print(f"{total.passed} passed, {total.failed} failed" + (f", {len(left)} skipped" if left else ""))
        return 1 if total.failed or not total.passed else 0

    def end_all(self) -> None:
        for process in list(self.running):
            _signal_group(process, signal.SIGTERM)

    def _add(self, cases: Cases, guest: bool) -> None:
        self.total.passed += cases.passed
        self.total.failed += cases.failed
        self.total.names |= cases.names
        self.total.skipped |= cases.skipped
        if guest:
            self.guest_skips |= cases.skipped

    def _execute(self, command: list, log: Path, limit: int, environment) -> int | None:
        with open(log, "wb") as output:
            process = subprocess.Popen(
                [str(word) for word in command], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output,
                stderr=subprocess.STDOUT, env=os.environ | SANITIZERS | (environment or {}), start_new_session=True,
            )  # fmt: skip
            self.running.add(process)
            try:
                return process.wait(limit)
            except subprocess.TimeoutExpired:
                _signal_group(process, signal.SIGTERM)
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    _signal_group(process, signal.SIGKILL)
                    process.wait()
                return None
            finally:
                self.running.discard(process)


def _signal_group(process: subprocess.Popen, number: int) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        pass


def build(run: Run, preset: str, targets: tuple[str, ...] = (), aside: bool = False, words: str = "") -> bool:
    # Sources that are joined take half of the time, and names of variables for a debugger a third of the rest.
    words = f"cmake --preset {preset} -DCMAKE_UNITY_BUILD=ON -DCMAKE_UNITY_BUILD_BATCH_SIZE=16 {words}"
    words += " -DCMAKE_CXX_FLAGS_RELWITHDEBINFO='-O2 -g1 -DNDEBUG'"
    words += f" && cmake --build --preset {preset}"
    if targets:
        words += f" --target {' '.join(targets)}"
    return run.step(f"build {preset}", [*(ASIDE if aside else ()), "bash", "-c", words], BUILD_SECONDS)


def by_ctest(run: Run, preset: str, without: str, aside: bool = False) -> None:
    """Tests by ctest, but for those with the labels `without`."""
    report = LOGS / f"ctest-{preset}.xml"
    report.unlink(missing_ok=True)
    words = ["ctest", "--preset", preset, "-LE", without, "-E", "_NOT_BUILT$", "-j", os.cpu_count(), "--output-junit", report]
    run.step(f"tests {preset}", [*(ASIDE if aside else ()), *words], TEST_SECONDS, lambda _: read_ctest(report) if report.exists() else Cases())


def by_program(run: Run, preset: str, program: str, aside: bool = False, shard: int = 0, shards: int = 1) -> None:
    """All tests of one program, or each `shards`th of them, in one process: with sanitizers a process takes longer to
    start than most tests."""
    name = f"{preset} {program}" + (f" {shard + 1} of {shards}" if shards > 1 else "")
    command = [*(ASIDE if aside else ()), f"build/{preset}/bin/{program}"]
    environment = {"GTEST_TOTAL_SHARDS": str(shards), "GTEST_SHARD_INDEX": str(shard)}
    run.step(name, command, TEST_SECONDS, read_log, environment=environment)


def here(run: Run, preset: str, aside: bool = False) -> None:
    """All tests that need no guest."""
    jobs = [("unit_tests", shard, UNIT_SHARDS) for shard in range(UNIT_SHARDS)]
    jobs += [(program, 0, 1) for program in GTEST_PROGRAMS]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda job: by_program(run, preset, job[0], aside, job[1], job[2]), jobs))
    by_ctest(run, preset, "vm|gtest", aside)


def guests(run: Run, built: dict[str, Future], rest: Future) -> None:
    """One after the other, those first whose programs are there. Two machines wait for each other much of the time, and
    what is built meanwhile costs them little; the others come afterwards, undisturbed."""
    undisturbed = UNDISTURBED if _can(*UNDISTURBED, "true") else ()
    rows = [line.split() for line in _output("tests/vm/run_suite", "--list").splitlines()]
    rows.sort(key=lambda row: row[3] == "1")
    while rows:
        name, preset, seconds, machines = row = next((row for row in rows if built[row[1]].done()), rows[0])
        rows.remove(row)
        if machines == "1" and not undisturbed:
            rest.result()
        if built[preset].result():
            words = [*(undisturbed if machines == "1" else ()), "tests/vm/run_suite", name]
            run.step(f"guest {name}", words, int(seconds) + 60, read_log, guest=True)
        else:
            run.cannot(f"guest {name}", f"the {preset} build failed")


def build_asan(run: Run) -> bool:
    return build(run, "asan", aside=True)


def build_tsan(run: Run) -> bool:
    """The daemons, for guests, and what starts threads."""
    # They do little here, so it is not worth the compiler's care, which takes half of the build's time.
    return build(run, "tsan", (*THREAD_PROGRAMS, *DAEMONS), aside=True, words="-DRNBD_SANITIZED_LEVEL=0")


def tests_here(run: Run, built: dict[str, Future]) -> None:
    """All tests that need no guest, with what has been built."""
    if built["release"].result():
        by_ctest(run, "release", "vm|gtest", aside=True)
    if built["asan"].result():
        here(run, "asan", aside=True)
    if built["tsan"].result():
        for each in THREAD_PROGRAMS:
            by_program(run, "tsan", each, aside=True)
    for preset in built:
        if not built[preset].result():
            run.cannot(f"tests {preset}", "its build failed")


def lint_and_fuzz(run: Run) -> None:
    run.step("format and tidy", [*ASIDE, "scripts/tidy.sh"], TEST_SECONDS, lambda _: Cases())
    run.step("fuzz", [*ASIDE, "scripts/fuzz.py", "--seconds", FUZZ_SECONDS], BUILD_SECONDS, read_fuzzers)


def _can(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _output(*command: str) -> str:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def everything(run: Run, fast: bool) -> None:
    with ThreadPoolExecutor(1) as background:
        kernels = None
        if not fast:
            # The network's work, while the compiler has the processors.
            words = "tests/vm/prepare --kernel-rnbd && tests/vm/prepare --kernel 6.12"
            kernels = background.submit(run.step, "guest kernels", ["bash", "-c", words], BUILD_SECONDS)
        release = Future()
        release.set_result(build(run, "release", RELEASE))
        built = {
            "release": release,
            "asan": background.submit(build_asan, run),
            "tsan": background.submit(build_tsan, run),
        }
        background.submit(tests_here, run, built)
        rest = background.submit(lint_and_fuzz, run)
        if kernels is not None and kernels.result():
            guests(run, built, rest)
        for each in (*built.values(), rest):
            each.result()


def main() -> int:
    parser = argparse.ArgumentParser(description="called by scripts/test.sh, which has the help")
    parser.add_argument("--fast", action="store_true")
    given = parser.parse_args()
    LOGS.mkdir(parents=True, exist_ok=True)
    run = Run()

    def end(number: int, _frame) -> None:
        run.end_all()
        os._exit(128 + number)

    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, end)
    everything(run, given.fast)
    return run.finish()


if __name__ == "__main__":
    sys.exit(main())
