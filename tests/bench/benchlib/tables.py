# SPDX-License-Identifier: Apache-2.0
"""The run's results as tables, in Markdown that is aligned for the terminal as well."""

from collections.abc import Iterator

from benchlib.stages import IDLE
from benchlib.summary import MACHINES, PROCESSES, Figure, Summary, bytes_of, cpu_us, rate, rest_us, switches

# What we are measured by, and against whom.
PAIRS = (
    ("ours-inv", "kernel-inv"),
    ("ours-noinv", "kernel-noinv"),
    ("ours-inv", "nvme-rdma"),
    ("ours-noinv", "nvme-rdma"),
)
CPU_AT_MOST = 1.3
_OURS, _BESIDE, _DRIVER = "ours-noinv", "kernel-noinv", "nbd-null"
MISSED = "✗"
COLUMNS = 120  # of a document's lines


def rate_at_least(workload: str) -> float | None:
    """The target of a ratio of I/Os per second; None where there is none."""
    if "-mixed-" in workload:
        return None
    return 0.8 if "-q1-" in workload else 1.0


def table(heads: list[str], rows: list[list[str]]) -> str:
    widths = [max(len(row[column]) for row in [heads, *rows]) for column in range(len(heads))]

    def line(cells: list[str]) -> str:
        first = cells[0].ljust(widths[0])
        return "| " + " | ".join([first, *(cell.rjust(width) for cell, width in zip(cells[1:], widths[1:]))]) + " |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([line(heads), line(rule), *(line(row) for row in rows)])


def number(value: float | None) -> str:
    """With as many digits as mean something."""
    if value is None:
        return ""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def with_spread(figure: Figure | None) -> str:
    """The median, and the farthest round's distance from it, if there is one."""
    if not figure:
        return ""
    return number(figure.median) + (f" ±{figure.spread * 100:.0f}%" if figure.rounds > 1 else "")


def rates(summary: Summary) -> str:
    rows = [[workload, *(with_spread(summary.figure(peer, workload, rate)) for peer in summary.peers)]
            for workload in summary.workloads]  # fmt: skip
    return table(["I/Os per second", *summary.peers], rows)


def throughput(summary: Summary) -> str:
    """MB/s of what is large."""
    rows = []
    for workload in summary.workloads:
        if bytes_of(workload) > 4096:
            figures = (summary.figure(peer, workload, rate) for peer in summary.peers)
            megabytes = [figure.median * bytes_of(workload) / 1e6 if figure else None for figure in figures]
            rows.append([workload, *(number(value) for value in megabytes)])
    return table(["MB per second", *summary.peers], rows)


def _judged(value: float | None, missed: bool) -> str:
    return "" if value is None else f"{value:.2f}{' ' + MISSED if missed else ''}"


def _rate_ratio(summary: Summary, peer: str, to: str, workload: str) -> str:
    value, target = summary.ratio(peer, to, workload, rate), rate_at_least(workload)
    return _judged(value, value is not None and target is not None and round(value, 2) < target)


def _cpu_ratio(summary: Summary, peer: str, to: str, workload: str) -> str:
    value = summary.ratio(peer, to, workload, cpu_us)
    return _judged(value, value is not None and bytes_of(workload) == 4096 and round(value, 2) > CPU_AT_MOST)


def ratios(summary: Summary) -> str:
    heads = [f"{peer} / {to}" for peer, to in PAIRS]
    rows = [[workload, *(_rate_ratio(summary, *pair, workload) for pair in PAIRS)] for workload in summary.workloads]
    return table(["I/Os per second", *heads], rows)


def cpu_ratios(summary: Summary) -> str:
    heads = [f"{peer} / {to}" for peer, to in PAIRS]
    rows = [[workload, *(_cpu_ratio(summary, *pair, workload) for pair in PAIRS)] for workload in summary.workloads]
    return table(["CPU time per I/O", *heads], rows)


def behind_nbd(summary: Summary) -> str:
    """What the kernel's RNBD would cost if nbd's driver and sockets were in front of it: what a client behind nbd takes
    that takes no time by itself, and no more for network, server and disk than they do."""
    rows = []
    for workload in summary.workloads:
        driver, peer = summary.figure(_DRIVER, workload, cpu_us), summary.figure(_BESIDE, workload, cpu_us)
        fio = summary.figure(_BESIDE, workload, lambda sample: cpu_us(sample, ("fio",)))
        ours = summary.ratio(_OURS, _BESIDE, workload, cpu_us)
        others = peer.median - fio.median
        both = (driver.median + others) / peer.median
        rows.append([workload, number(driver.median), number(others), f"{both:.2f}", f"{ours:.2f}"])
    heads = ["CPU µs per I/O", _DRIVER, f"{_BESIDE} but for fio", f"sum / {_BESIDE}", f"{_OURS} / {_BESIDE}"]
    return table(heads, rows)


def latencies(summary: Summary) -> str:
    rows = []
    for workload in summary.workloads:
        if "-q1-" in workload:
            for name in ("p50_us", "p99_us"):
                figures = (summary.figure(peer, workload, lambda sample, name=name: sample[name]) for peer in summary.peers)
                rows.append([f"{workload} {name[:3]}", *(number(each.median) if each else "" for each in figures)])
    return table(["latency, µs", *summary.peers], rows)


def _median(summary: Summary, peer: str, workload: str, metric) -> str:
    figure = summary.figure(peer, workload, metric)
    return number(figure.median) if figure else ""


def cost(summary: Summary, workload: str) -> str:
    """What one I/O costs, by who pays."""
    two = MACHINES if summary.results["guests"] == 2 else ()
    rows = []
    for peer in summary.peers:
        cells = [_median(summary, peer, workload, cpu_us)]
        cells += [_median(summary, peer, workload, lambda sample, who=who: cpu_us(sample, (who,))) for who in PROCESSES]
        cells += [_median(summary, peer, workload, rest_us), _median(summary, peer, workload, switches)]
        for role in ("client", "server"):
            cells += [number(figure) for figure in summary.syscalls(peer, workload, role) or (None, None)]
        cells += [_median(summary, peer, workload, lambda sample, who=who: cpu_us(sample, (who,))) for who in two]
        rows.append([peer, *cells])
    heads = [workload, "CPU µs", "fio", "client", "server", "rest", "switches"]
    heads += ["client's calls", "yields", "server's calls", "yields", *two]
    return table(heads, rows)


def stages(summary: Summary, workload: str, where: str) -> str:
    """Where a machine's CPUs are, for one I/O: what takes a hundredth of somebody's time at least."""
    columns = {peer: found for peer in summary.peers if (found := summary.stages(peer, workload, where))}
    names = {name for found in columns.values() for name, time in found.items() if time * 100 >= sum(found.values())}
    first = next(iter(columns.values()))
    rows = [[name, *(number(found.get(name, 0.0)) for found in columns.values())]
            for name in sorted(names, key=lambda name: (name == IDLE, -first.get(name, 0.0), name))]  # fmt: skip
    of = f" of the {where}" if summary.results["guests"] == 2 else ""
    return table([f"{workload}, CPU µs{of}", *columns], rows)


def wire(summary: Summary) -> str:
    rows = [[row["program"], str(row["size"]), f"{number(row['value'])} {row['unit']}"] for row in summary.results["wire"]]
    return table(["perftest", "bytes", "result"], rows)


def everything(summary: Summary) -> Iterator[str]:
    results = summary.results
    where = f"{results['guests']} guest(s)" if results["guests"] else "native"
    yield f"Linux {results['kernel']}, {where}, {results['cpus']} CPUs; medians of {results['rounds']} rounds of\n" \
        f"{results['seconds']:g} s each, ± the round farthest from it. {MISSED}: target missed."  # fmt: skip
    for peer, reason in results.get("left_out", {}).items():
        yield f"{peer} failed and was left out from there on, {reason}."
    yield rates(summary)
    if any(bytes_of(workload) > 4096 for workload in summary.workloads):
        yield throughput(summary)
    yield ratios(summary)
    yield cpu_ratios(summary)
    if {_OURS, _BESIDE, _DRIVER} <= set(summary.peers):
        yield behind_nbd(summary)
    if any("-q1-" in workload for workload in summary.workloads):
        yield latencies(summary)
    for workload in summary.workloads:
        if workload.startswith("4k-rand"):
            yield cost(summary, workload)
    for workload in summary.workloads:
        for where in MACHINES:
            if any((row["workload"], row["machine"]) == (workload, where) for row in results["stages"]):
                yield stages(summary, workload, where)
    if results["wire"]:
        yield wire(summary)
