# SPDX-License-Identifier: Apache-2.0
"""The machine a guest is: QEMU's command line, and whether KVM can be used for it."""

import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from vmlib import tsc
from vmlib.cache import REPO, BootFiles
from vmlib.qmp import SOCKET_NAME

STAGE2 = REPO / "tests/vm/guest/stage2"
CONSOLE_LOG = "console.log"
KVM_PROBE_SECONDS = 10

QEMU = [
    # If this process dies in whatever way, so does its QEMU.
    "setpriv", "--pdeathsig", "KILL", "--",
    "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-machine", "q35",
]  # fmt: skip


@dataclass(frozen=True)
class Machine:
    """What all guests of a run have in common."""

    boot: BootFiles
    cpus: int
    memory_mib: int
    accel: str  # tcg, kvm or icount
    kernel_append: str = ""
    disks: list[str] = field(default_factory=list)  # sizes, as truncate(1) writes them


def command(machine: Machine, name: str, directory: Path, shared: Path, ports: dict[str, int], links: list[int],
            shell: bool) -> list[str]:  # fmt: skip
    """QEMU's command line for guest `name`, to be run in `directory` with the descriptors in `ports` (virtio-serial
    port to socket) and `links` (one socket per NIC) inherited."""
    words = [*QEMU, "-name", f"rnbd-vm-{name}", *_processor(machine.accel), "-smp", str(machine.cpus)]
    words += ["-m", str(machine.memory_mib), "-rtc", "base=utc"]
    words += ["-kernel", str(machine.boot.kernel), "-initrd", str(machine.boot.initramfs)]
    words += ["-append", _kernel_command_line(machine, name)]
    # Paths of files here are relative: QEMU cannot have long ones for sockets.
    words += ["-chardev", f"file,id=console,path={CONSOLE_LOG}", "-serial", "chardev:console"]
    words += ["-chardev", f"socket,id=qmp,path={SOCKET_NAME},server=on,wait=off", "-mon", "chardev=qmp,mode=control"]
    words += _share("root", Path("/"), readonly=True)
    words += _share("modules", machine.boot.modules, readonly=True)
    words += _share("results", directory)
    words += _share("shared", shared)
    if shell:
        words += ["-chardev", "stdio,id=terminal,signal=off", "-serial", "chardev:terminal"]
    words += ["-device", "virtio-serial-pci"]
    for port, descriptor in ports.items():
        words += ["-chardev", f"socket,id={port},fd={descriptor}"]
        words += ["-device", f"virtserialport,chardev={port},name={port}"]
    for number, descriptor in enumerate(links):
        mac = f"52:54:00:09:{number:02x}:{0x0A if name == 'a' else 0x0B:02x}"
        words += ["-netdev", f"socket,id=link{number},fd={descriptor}"]
        words += ["-device", f"virtio-net-pci,netdev=link{number},mac={mac},romfile="]
    for number in range(len(machine.disks)):
        words += ["-drive", f"file={disk_name(number)},format=raw,if=none,id=disk{number},cache=unsafe,discard=unmap"]
        words += ["-device", f"virtio-blk-pci,drive=disk{number},serial=disk{number}"]
    return words


def disk_name(number: int) -> str:
    return f"disk{number}.img"


def choose_accel(asked: str, boot: BootFiles, say=print) -> str:
    """`auto`: KVM if a kernel really boots with it. A present /dev/kvm proves nothing: there are hosts on which a guest
    then spins in the firmware for ever."""
    if asked != "auto":
        return asked
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        say("vm: no KVM here")
        return "tcg"
    words = [*QEMU, *_processor("kvm"), "-m", "256", "-kernel", str(boot.kernel), "-initrd", str(boot.initramfs)]
    words += ["-append", "panic=-1 vm.probe=1", "-serial", "none", "-monitor", "none"]
    try:
        works = subprocess.run(words, capture_output=True, timeout=KVM_PROBE_SECONDS, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        works = False
    say("vm: KVM works" if works else f"vm: KVM does not boot a kernel within {KVM_PROBE_SECONDS} s; using TCG")
    return "kvm" if works else "tcg"


def _processor(accel: str) -> list[str]:
    if accel == "kvm":
        return ["-accel", "kvm", "-cpu", "host"]
    # Emulated, what is copied by `rep movsb` is copied byte by byte: fast only where the processor does it.
    model = ["-cpu", "max,erms=off,fsrm=off"]
    if accel == "icount":
        return ["-accel", "tcg,thread=single", "-icount", "shift=0,sleep=on", *model]
    return ["-accel", "tcg,thread=multi", *model]


def _clock(accel: str) -> list[str]:
    """What makes the guest trust its TSC (see tsc.py); KVM's guests have a clock of their own."""
    frequency = tsc.khz() if accel == "tcg" else None
    return ["tsc=reliable", f"tsc_early_khz={frequency}"] if frequency else []


def _kernel_command_line(machine: Machine, name: str) -> str:
    words = [
        "console=ttyS0,115200",
        *_clock(machine.accel),
        "mitigations=off",  # they cost time, and some announce themselves with a WARNING
        "panic=-1",  # with -no-reboot: the end of QEMU
        "oops=panic",  # what runs after an oops proves nothing
        "watchdog_thresh=60",  # virtual CPUs share the host's with others; their lockup is no bug of the guest
        f"vm.hostname=vm-{name}",
        f"vm.tmpfs={machine.memory_mib * 3 // 4}m",
        f"vm.stage2={STAGE2}",
        machine.kernel_append,
    ]
    return " ".join(word for word in words if word)


def _share(tag: str, path: Path, readonly: bool = False) -> list[str]:
    options = f"local,id={tag},path={str(path).replace(',', ',,')},security_model=none,multidevs=remap"
    return [
        "-fsdev", options + (",readonly=on" if readonly else ""),
        "-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}",
    ]  # fmt: skip
