# SPDX-License-Identifier: Apache-2.0
"""Compares block devices over a network on one machine or two: peers, load, counters, and what is made of them."""


class BenchError(Exception):
    """Something that ends the run; its text is for whoever started it."""
