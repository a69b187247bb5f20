# SPDX-License-Identifier: Apache-2.0
"""The parts of the virtual-machine test bench (tests/vm/run and its siblings). Standard library only."""


class BenchError(Exception):
    """The bench itself cannot do what was asked (not: a test failed). The text is for the user."""
