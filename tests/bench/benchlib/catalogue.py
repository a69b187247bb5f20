# SPDX-License-Identifier: Apache-2.0
"""All peers by name, in the order of tables and plots."""

from benchlib.machine import Place
from benchlib.nvme import Nvme
from benchlib.peers import KernelRnbd, Local, Nbd, NbdNull, Ours, Peer


def peers(place: Place) -> dict[str, Peer]:
    """ "-inv": always_invalidate=yes, the default of both; "-noinv": without."""
    every = (
        Local(place),
        Ours(place, "ours-inv", new_keys=True),
        Ours(place, "ours-noinv", new_keys=False),
        KernelRnbd(place, "kernel-inv", new_keys=True),
        KernelRnbd(place, "kernel-noinv", new_keys=False),
        Nvme(place, "nvme-rdma", "rdma"),
        Nvme(place, "nvme-tcp", "tcp"),
        Nbd(place, "nbd-tcp"),
        Nbd(place, "nbd-unix", place.scratch / "nbd.sock"),
        NbdNull(place),
    )
    return {peer.name: peer for peer in every}


NEEDS_ONE_MACHINE = ("local", "nbd-unix", "nbd-null")
