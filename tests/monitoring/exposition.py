# SPDX-License-Identifier: Apache-2.0
"""Prometheus' text format 0.0.4, read strictly: what its own parser would refuse, or take for something else, is an
error here. Only Python's own library."""

import math
import re
from dataclasses import dataclass, field

NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\\\|\\"|\\n)*)"(,?)')
ESCAPES = {"\\\\": "\\", '\\"': '"', "\\n": "\n"}
PARTS = {"histogram": ("_bucket", "_sum", "_count")}


class Wrong(Exception):
    """The page is not what Prometheus reads."""


@dataclass
class Family:
    name: str
    kind: str = ""
    help: str = ""
    samples: dict = field(default_factory=dict)  # (name, labels as a sorted tuple of pairs): value


def number(text: str) -> float:
    if not re.fullmatch(r"[+-]?(Inf|[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?)|NaN", text):
        raise Wrong(f"no number: {text!r}")
    return float(text)


def labels(text: str) -> tuple[dict[str, str], str]:
    """Of `text` behind a brace, and what follows the other one."""
    found = {}
    while not text.startswith("}"):
        match = LABEL.match(text)
        if not match:
            raise Wrong(f"no label: {text!r}")
        name, value, comma = match.groups()
        if name in found or name.startswith("__"):
            raise Wrong(f"label {name}")
        found[name] = re.sub(r'\\[\\"n]', lambda escape: ESCAPES[escape[0]], value)
        text = text[match.end() :]
        if not comma and not text.startswith("}"):
            raise Wrong(f"no comma: {text!r}")
    return found, text[1:]


def sample(line: str):
    name = NAME.match(line)
    if not name:
        raise Wrong(f"no sample: {line!r}")
    rest, named = line[name.end() :], {}
    if rest.startswith("{"):
        named, rest = labels(rest[1:])
    if not rest.startswith(" ") or len(rest.split()) != 1:
        raise Wrong(f"one value is wanted: {line!r}")
    return name[0], named, number(rest.strip())


def read(page: bytes) -> dict[str, Family]:
    """All families by name."""
    text = page.decode("utf-8")
    if not text.endswith("\n"):
        raise Wrong("the last line does not end")
    families, current = {}, None
    for line in text.split("\n")[:-1]:
        if line.startswith("# HELP ") or line.startswith("# TYPE "):
            _, what, name, rest = line.split(" ", 3)
            if what == "HELP":
                if name in families or not NAME.fullmatch(name):
                    raise Wrong(f"{name} comes twice, or is no name")
                current = families[name] = Family(name, help=rest)
            elif current is None or name != current.name or current.kind:
                raise Wrong(f"TYPE of {name} is not behind its HELP")
            else:
                current.kind = rest
        elif not line or line.startswith("#"):
            raise Wrong(f"an odd line: {line!r}")
        else:
            name, named, value = sample(line)
            if current is None or not current.kind:
                raise Wrong(f"{name} comes before its TYPE")
            if name not in [current.name + part for part in PARTS.get(current.kind, ("",))]:
                raise Wrong(f"{name} among {current.name}")
            key = (name, tuple(sorted(named.items())))
            if key in current.samples:
                raise Wrong(f"{key} comes twice")
            current.samples[key] = value
    for family in families.values():
        check(family)
    return families


def check(family: Family) -> None:
    if family.kind not in ("counter", "gauge", "histogram"):
        raise Wrong(f"{family.name} is a {family.kind!r}")
    if (family.kind == "counter") != family.name.endswith("_total"):
        raise Wrong(f"{family.name} is a {family.kind}")
    if not family.help:
        raise Wrong(f"{family.name} has no help")
    if family.kind == "counter" and any(value < 0 for value in family.samples.values()):
        raise Wrong(f"{family.name} is negative")
    if family.kind == "histogram":
        check_histogram(family)


def check_histogram(family: Family) -> None:
    series = {}
    for (name, named), value in family.samples.items():
        one = series.setdefault(tuple(pair for pair in named if pair[0] != "le"), {})
        if name.endswith("_bucket"):
            one.setdefault("buckets", []).append((number(dict(named)["le"]), value))
        else:
            one[name.removeprefix(family.name)] = value
    for named, one in series.items():
        bounds = [bound for bound, _ in one["buckets"]]
        counts = [count for _, count in one["buckets"]]
        if bounds != sorted(set(bounds)) or bounds[-1] != math.inf or counts != sorted(counts):
            raise Wrong(f"{family.name}{named}: buckets {one['buckets']}")
        if counts[-1] != one["_count"] or one["_sum"] < 0 or (one["_sum"] > 0) > (one["_count"] > 0):
            raise Wrong(f"{family.name}{named}: {counts[-1]} of {one['_count']}, sum {one['_sum']}")


def value_of(families: dict[str, Family], name: str, **named: str) -> float:
    """The sum of the samples that are called `name` and have these labels."""
    found = [
        value
        for family in families.values()
        for (sample_name, pairs), value in family.samples.items()
        if sample_name == name and named.items() <= dict(pairs).items()
    ]
    if not found:
        raise Wrong(f"there is no {name} {named}")
    return sum(found)
