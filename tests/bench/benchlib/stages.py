# SPDX-License-Identifier: Apache-2.0
"""What the CPUs do for an I/O, by stage: each sample of the profile is what its innermost function is known to be for."""

import re
from collections import Counter

IDLE = "idle"

# By the function's name, the first that matches; what serves many (locks, allocation) is its caller's.
_KERNEL = (
    (IDLE, r"native_safe_halt|default_idle|acpi_idle|intel_idle|mwait_idle|poll_idle"),
    ("checksums of soft-RoCE", r"crc32|loop_\d|rxe_icrc"),
    ("copying", r"mem(cpy|set|move)|copy_user|_copy_(to|from)_iter|copy_page|clear_page|rxe_mr_copy"),
    ("switching threads", r"schedule$|__schedule|finish_task_switch|try_to_wake|ttwu_|wake_up|__wake|futex|do_idle"
                          r"|cpu_startup|pick_next|yield"),  # fmt: skip
    ("NBD sockets", r"unix_|sock_(send|recv)|___?sys_(send|recv)|do_recvmmsg"),
    ("nbd, brd, block layer", r"nbd_|recv_work|brd_|blk_|bio_|submit_bio|blkdev_|__blkdev|dio_"),
    ("kernel's initiators and targets", r"rnbd_|rtrs_|nvme|nvmet"),
    ("soft-RoCE, network", r"rxe_|udp|ip_|__?dev_|netif|net_(rx|tx)|process_backlog|loopback_xmit|e1000|virtnet|tcp_"),
    ("verbs", r"ib_|uverbs|rdma_"),
    ("io_uring", r"(__)?io_|__(do|x64)_sys_io_uring"),
    ("asynchronous I/O of fio", r"aio_|__(do|x64)_sys_io_(submit|p?getevents)|lookup_ioctx|read_events"),
    ("waiting for events", r"ep_|eventfd|do_epoll|do_poll|vfs_poll"),
    ("interrupts, timers", r"__do_softirq|sysvec_|asm_sysvec|irq_|__irq|hrtimer|tick_|update_process"),
    ("entering and leaving the kernel", r"entry_SYSCALL|do_syscall|syscall_|exit_to_user"),
)
_KERNEL = tuple((stage, re.compile(f"(?:{pattern})")) for stage, pattern in _KERNEL)
OTHER = "other"
_FRAME = re.compile(r"^\s+[0-9a-f]+ (\S+)(?:\+0x[0-9a-f]+)? \((.*)\)$")


def shares(script: str) -> dict[str, float]:
    """The stages' parts of all samples in perf-script(1)'s output of `comm,ip,sym,dso`."""
    counts: Counter[str] = Counter()
    for sample in re.split(r"\n\s*\n", script.strip("\n")):
        head, *rest = sample.splitlines()
        frames = [match.groups() for match in map(_FRAME.match, rest) if match]
        counts[_stage(head.strip(), frames)] += 1
    total = counts.total()
    return {stage: count / total for stage, count in counts.items()}


def _stage(program: str, frames: list[tuple[str, str]]) -> str:
    if frames and "kernel" not in frames[0][1] and not frames[0][1].endswith(".ko") and frames[0][1][0] != "[":
        return f"in {program.split('/')[0]}"
    for name, _ in frames:
        for stage, pattern in _KERNEL:
            if pattern.match(name):
                return stage
    return OTHER
