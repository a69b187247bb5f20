# SPDX-License-Identifier: Apache-2.0
"""The block devices that are compared. Each has a server's half and a client's half, which know nothing of each other:
they may run on two machines. What is set up is taken down again, so that a round meets every peer alone."""

import os
from abc import ABC, abstractmethod
from pathlib import Path

from benchlib import BenchError, machine
from benchlib.machine import Place, Program


class Peer(ABC):
    name: str

    def __init__(self, place: Place):
        self.place = place
        self.server: Program | None = None  # the process that serves, where it is one
        self.client: Program | None = None

    def missing(self) -> str | None:
        """What this machine lacks for it, if anything."""
        return None

    @abstractmethod
    def serve(self) -> None:
        """The server's half: the disk can be attached when this returns."""

    @abstractmethod
    def withdraw(self) -> None:
        """The end of serve()."""

    @abstractmethod
    def attach(self) -> str:
        """The client's half. Returns the device's node."""

    @abstractmethod
    def detach(self) -> None:
        """The end of attach()."""

    def _log(self, role: str) -> Path:
        return self.place.scratch / f"{self.name}.{role}.log"


def lacking_modules(*modules: str) -> str | None:
    absent = [module for module in modules if not machine.has_module(module)]
    return f"modules {', '.join(absent)}" if absent else None


class Local(Peer):
    """The disk itself: what no peer can beat."""

    name = "local"

    def serve(self) -> None:
        pass

    def withdraw(self) -> None:
        pass

    def attach(self) -> str:
        return self.place.disk

    def detach(self) -> None:
        pass


class Ours(Peer):
    """This project's daemons, a queue for each CPU."""

    def __init__(self, place: Place, name: str, new_keys: bool):
        super().__init__(place)
        self.name = name
        self._always_invalidate = "yes" if new_keys else "no"
        self._node = ""

    def missing(self) -> str | None:
        absent = [name for name in ("rnbd-server", "rnbd-client") if not (self.place.programs / name).exists()]
        return f"programs {', '.join(absent)}" if absent else lacking_modules("nbd")

    def serve(self) -> None:
        self.server = self._daemon("server", "--always-invalidate", self._always_invalidate)

    def withdraw(self) -> None:
        self.server.stop()
        self.server = None

    def attach(self) -> str:
        machine.load("nbd")
        self.client = self._daemon("client")
        words = (f"server=ip:{self.place.address}", f"device_path={self.place.disk}")
        self._node = machine.run(self._program("client"), "map", *words, *self._control("client"))
        return self._node

    def detach(self) -> None:
        machine.run(self._program("client"), "unmap", self._node, *self._control("client"))
        self.client.stop()
        self.client = None

    def _program(self, role: str) -> str:
        return str(self.place.programs / f"rnbd-{role}")

    def _control(self, role: str) -> tuple[str, str]:
        return "--control", str(self.place.scratch / f"{role}.sock")

    def _daemon(self, role: str, *options: str) -> Program:
        program = Program(self._log(role), self._program(role), "daemon", *options, *self._control(role))
        program.wait_until(lambda: machine.succeeds(self._program(role), "list", *self._control(role)))
        return program


class KernelRnbd(Peer):
    """The kernel's rnbd-server and rnbd-client."""

    _SERVER_MODULES = ("rtrs-core", "rtrs-server", "rnbd-server")
    _CLIENT_MODULES = ("rtrs-core", "rtrs-client", "rnbd-client")
    _SESSION = "bench"

    def __init__(self, place: Place, name: str, new_keys: bool):
        super().__init__(place)
        self.name = name
        self._parameters = {"rtrs-server": f"always_invalidate={'Y' if new_keys else 'N'}"}
        self._node = ""

    def missing(self) -> str | None:
        if self.place.modules:
            return None
        return lacking_modules("rnbd-server", "rnbd-client")

    def serve(self) -> None:
        if machine.is_loaded("rtrs-server"):
            raise BenchError("rtrs-server is loaded already, who knows with which parameters")
        self._insert(self._SERVER_MODULES)

    def withdraw(self) -> None:
        machine.unload("rnbd-server", "rtrs-server")

    def attach(self) -> str:
        self._insert(self._CLIENT_MODULES)
        control = Path("/sys/class/rnbd-client/ctl")
        disk = self.place.disk
        machine.write(control / "map_device", f"sessname={self._SESSION} path=ip:{self.place.address} device_path={disk}")
        link = control / "devices" / f"{disk.replace('/', '!')}@{self._SESSION}"
        self._node = f"/dev/{Path(os.readlink(link)).name}"
        return self._node

    def detach(self) -> None:
        unmap = Path("/sys/block") / Path(self._node).name / "rnbd/unmap_device"
        # udev may be reading the device that fio has just closed. Whoever waits for an answer that does not come, which
        # was seen between two machines, keeps it busy for good, and unmapping by force then hangs in the kernel; what is
        # lost with its connection fails.
        try:
            machine.write_when_free(unmap, "normal")
        except BenchError:
            for path in Path("/sys/class/rtrs-client", self._SESSION, "paths").iterdir():
                machine.write(path / "disconnect", "1")
            machine.write_when_free(unmap, "normal")
        machine.unload("rnbd-client", "rtrs-client")

    def _insert(self, modules: tuple[str, ...]) -> None:
        if not self.place.modules:
            machine.load(*(f"{module} {self._parameters.get(module, '')}" for module in modules))
            return
        machine.load("rdma_cm", "libcrc32c")
        for module in modules:
            if not machine.is_loaded(module):
                parameters = self._parameters.get(module, "").split()
                machine.run("insmod", str(self.place.modules / f"{module}.ko"), *parameters)


class Nbd(Peer):
    """The kernel's nbd and qemu-nbd, with as many connections as there are CPUs."""

    _NODE = "/dev/nbd0"

    def __init__(self, place: Place, name: str, socket: Path | None = None):
        super().__init__(place)
        self.name = name
        self._socket = socket  # instead of TCP
        self._port = 10809

    def missing(self) -> str | None:
        absent = [name for name in ("qemu-nbd", "nbd-client") if not machine.has_program(name)]
        return f"programs {', '.join(absent)}" if absent else lacking_modules("nbd")

    def serve(self) -> None:
        where = ["-k", str(self._socket)] if self._socket else ["-b", self.place.address, "-p", str(self._port)]
        words = ["qemu-nbd", "--persistent", "--format=raw", "--cache=none", "--aio=io_uring", "--discard=unmap"]
        words += [f"--shared={self.place.cpus + 1}", *where, self.place.disk]
        self.server = Program(self._log("server"), *words)
        self.server.wait_until(self._is_listening)

    def withdraw(self) -> None:
        self.server.stop()
        self.server = None

    def attach(self) -> str:
        machine.load("nbd")
        where = ["-unix", str(self._socket)] if self._socket else [self.place.address, str(self._port)]
        machine.run("nbd-client", *where, self._NODE, "-C", str(self.place.cpus))
        size = Path("/sys/block", Path(self._NODE).name, "size")
        machine.wait_until(f"{self._NODE} has a size", lambda: size.read_text().strip() != "0")
        return self._NODE

    def detach(self) -> None:
        machine.run("nbd-client", "-d", self._NODE)
        in_use = Path("/sys/block", Path(self._NODE).name, "pid")
        machine.wait_until(f"{self._NODE} is free", lambda: not in_use.exists())

    def _is_listening(self) -> bool:
        return self._socket.exists() if self._socket else machine.is_listening(self._port)


class NbdNull(Peer):
    """The kernel's nbd with a program that answers at once and stores nothing: what a client behind that driver's
    sockets could reach if neither the network nor the server took any time."""

    name = "nbd-null"

    def missing(self) -> str | None:
        if not self._program().exists():
            return "program nbd_null"
        return lacking_modules("nbd")

    def serve(self) -> None:
        pass

    def withdraw(self) -> None:
        pass

    def attach(self) -> str:
        machine.load("nbd")
        log = self._log("client")
        log.unlink(missing_ok=True)
        self.client = Program(log, str(self._program()), str(machine.bytes_of(self.place.disk)), str(self.place.cpus))
        self.client.wait_until(lambda: log.read_text().startswith("/dev/"))
        return log.read_text().strip()

    def detach(self) -> None:
        self.client.stop()
        self.client = None

    def _program(self) -> Path:
        return self.place.programs / "nbd_null"
