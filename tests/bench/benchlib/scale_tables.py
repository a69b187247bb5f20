# SPDX-License-Identifier: Apache-2.0
"""The results of tests/bench/scale as tables: of scale.py's runs and policies.py's."""

import textwrap
from collections.abc import Iterator
from statistics import median

from benchlib.policies import POLICIES
from benchlib.scale import BUSY, BUSY_DEPTH, KINDS
from benchlib.summary import Figure, cpu_us, rate
from benchlib.tables import COLUMNS, number, table, with_spread

DAEMONS = ("client", "server")


def head(series: str) -> str:
    return f"{series.removeprefix(BUSY)}, {BUSY_DEPTH} I/Os each" if series.startswith(BUSY) else series


def cost(sample: dict) -> float:
    """CPU time per I/O of the whole machine, in µs."""
    return cpu_us(sample, ("machine",))


def points(results: dict, series: str) -> list[int]:
    return sorted({row["much"] for row in results["samples"] if row["series"] == series})


def figure(results: dict, series: str, much: int, kind: str, metric) -> Figure:
    return Figure.of([metric(row) for row in results["samples"]
                      if (row["series"], row["much"], row["kind"]) == (series, much, kind)])  # fmt: skip


def series_table(results: dict, series: str) -> str:
    rows = []
    first = {}
    for much in points(results, series):
        cells = [str(much)]
        for kind in KINDS:
            spent = figure(results, series, much, kind, cost)
            daemons = figure(results, series, much, kind, lambda sample: cpu_us(sample, DAEMONS))
            base = first.setdefault(kind, spent.median)
            cells += [with_spread(figure(results, series, much, kind, rate)), with_spread(spent)]
            cells += [number(daemons.median), f"{spent.median / base:.2f}"]
        rows.append(cells)
    heads = [head(series)]
    for kind in KINDS:
        heads += [f"{kind}s/s", "CPU µs", "daemons'", "of the first"]
    return table(heads, rows)


def idle_table(results: dict) -> str:
    rows = []
    for much in points(results, "devices"):
        here = [row for row in results["idle"] if row["much"] == much]
        rows.append([str(much), *(f"{median(row[name] for row in here) * 100:.2f} %" for name in DAEMONS)])
    return table(["devices, idle", *(f"{name}, of a CPU" for name in DAEMONS)], rows)


def mapping_table(results: dict) -> str:
    rows = [["all at once" if row["together"] else "one after the other", str(row["devices"]), number(row["seconds"])]
            for row in results["mapping"]]  # fmt: skip
    return table(["commands", "devices mapped", "seconds"], rows)


def policies_table(results: dict) -> str:
    workloads = list(dict.fromkeys(row["workload"] for row in results["policies"]))

    def of(policy: str, workload: str, metric) -> Figure:
        rows = results["policies"]
        return Figure.of([metric(row) for row in rows if (row["policy"], row["workload"]) == (policy, workload)])

    rows = []
    for workload in workloads:
        base = of(POLICIES[0], workload, rate).median
        cells = [workload]
        for policy in POLICIES:
            found = of(policy, workload, rate)
            cells += [with_spread(found), f"{found.median / base:.2f}"]
        rows.append(cells)
    return table(["I/Os per second", *(head for policy in POLICIES for head in (policy, "of the first"))], rows)


def _caption(results: dict) -> str:
    machine = results["machine"][0].upper() + results["machine"][1:]
    if not results["series"]:
        return f"{machine}."
    rounds = "" if results["rounds"] == 1 else f"; medians of {results['rounds']} rounds, ± the one farthest from it"
    text = f"{machine}; 64 I/Os of 4 KiB at a time where nothing else is said, with new keys; {results['seconds']:g} s of each{rounds}."
    return textwrap.fill(text, COLUMNS)


def everything(runs: list[dict]) -> Iterator[str]:
    for results in runs:
        if "policies" in results:
            yield f"Two guests with two cables; what the client sends over the second is {results['delay_ms']} ms late; " \
                f"medians of {results['rounds']} rounds."  # fmt: skip
            yield policies_table(results)
            continue
        yield _caption(results)
        for series in results["series"]:
            yield series_table(results, series)
        if results["idle"]:
            yield idle_table(results)
        if results["mapping"]:
            yield mapping_table(results)
