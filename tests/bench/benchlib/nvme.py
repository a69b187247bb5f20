# SPDX-License-Identifier: Apache-2.0
"""NVMe over fabrics by the kernel's target and host, set up by hand: configfs and /dev/nvme-fabrics."""

import os
import re
from pathlib import Path

from benchlib import BenchError, machine
from benchlib.machine import Place
from benchlib.peers import Peer, lacking_modules

_CONFIG = Path("/sys/kernel/config/nvmet")
_QUALIFIED_NAME = "nqn.2026-01.bench:disk"


class Nvme(Peer):
    _PORT = "4420"

    def __init__(self, place: Place, name: str, transport: str):
        super().__init__(place)
        self.name = name
        self._transport = transport  # rdma or tcp
        self._controller = ""

    def missing(self) -> str | None:
        return lacking_modules(f"nvmet-{self._transport}", f"nvme-{self._transport}")

    def serve(self) -> None:
        machine.load("nvmet", f"nvmet-{self._transport}")
        if not _CONFIG.exists():
            machine.run("mount", "-t", "configfs", "none", "/sys/kernel/config")
        self._export()
        self._listen()

    def withdraw(self) -> None:
        self._link.unlink()
        self._port.rmdir()
        machine.write(self._namespace / "enable", "0")
        self._namespace.rmdir()
        self._subsystem.rmdir()
        machine.unload(f"nvmet-{self._transport}", "nvmet")

    def attach(self) -> str:
        if not machine.is_loaded("nvme-core"):
            machine.load("nvme-core multipath=N")  # or the node would be one more layer
        machine.load(f"nvme-{self._transport}")
        self._controller = self._connect()
        machine.wait_until(f"{self._controller} has a namespace", lambda: bool(self._namespaces()))
        node = Path("/dev", self._namespaces()[0].name)
        machine.wait_until(f"{node} is there", node.exists)
        return str(node)

    def detach(self) -> None:
        machine.write(Path("/sys/class/nvme", self._controller, "delete_controller"), "1")
        machine.unload(f"nvme-{self._transport}", "nvme-fabrics", "nvme-core")

    def _namespaces(self) -> list[Path]:
        return list(Path("/sys/class/nvme", self._controller).glob(f"{self._controller}n[0-9]*"))

    @property
    def _subsystem(self) -> Path:
        return _CONFIG / "subsystems" / _QUALIFIED_NAME

    @property
    def _namespace(self) -> Path:
        return self._subsystem / "namespaces/1"

    @property
    def _port(self) -> Path:
        return _CONFIG / "ports/1"

    @property
    def _link(self) -> Path:
        return self._port / "subsystems" / _QUALIFIED_NAME

    def _export(self) -> None:
        self._subsystem.mkdir()
        machine.write(self._subsystem / "attr_allow_any_host", "1")
        self._namespace.mkdir()
        machine.write(self._namespace / "device_path", self.place.disk)
        machine.write(self._namespace / "enable", "1")

    def _listen(self) -> None:
        self._port.mkdir()
        words = {"trtype": self._transport, "adrfam": "ipv4", "traddr": self.place.address, "trsvcid": self._PORT}
        for key, value in words.items():
            machine.write(self._port / f"addr_{key}", value)
        self._link.symlink_to(self._subsystem)

    def _connect(self) -> str:
        """The new controller's name. The kernel answers on the descriptor that it was told on."""
        words = {
            "transport": self._transport,
            "traddr": self.place.address,
            "trsvcid": self._PORT,
            "nqn": _QUALIFIED_NAME,
            "nr_io_queues": self.place.cpus,
        }
        fabrics = os.open("/dev/nvme-fabrics", os.O_RDWR)
        try:
            os.write(fabrics, ",".join(f"{key}={value}" for key, value in words.items()).encode())
            answer = os.read(fabrics, 256).decode()
        except OSError as error:
            raise BenchError(f"/dev/nvme-fabrics: {error.strerror}") from error
        finally:
            os.close(fabrics)
        return f"nvme{re.search(r'instance=([0-9]+)', answer)[1]}"
