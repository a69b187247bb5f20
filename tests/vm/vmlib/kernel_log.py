# SPDX-License-Identifier: Apache-2.0
"""What in a guest's kernel log means that the run has failed, whatever the script said."""

import re
from pathlib import Path

COMPLAINT = re.compile(
    r"Kernel panic|\bBUG\b|kernel BUG|\bOops\b|WARNING:|general protection fault|Unable to handle kernel"
    r"|\bleaked\b|ref leak"
)
SHOWN_LINES = 12


def complaints(console: Path, allowed: list[str]) -> list[str]:
    """Lines of the log with a complaint of the kernel's in them, except those that match a regex in `allowed`."""
    excused = [re.compile(each) for each in allowed]
    return [
        line
        for line in _lines(console)
        if COMPLAINT.search(line) and not any(each.search(line) for each in excused)
    ]


def last_lines(console: Path) -> list[str]:
    return _lines(console)[-SHOWN_LINES:]


def _lines(console: Path) -> list[str]:
    try:
        return console.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return []
