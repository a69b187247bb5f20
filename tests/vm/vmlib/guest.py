# SPDX-License-Identifier: Apache-2.0
"""One guest of a run: its directory, its QEMU process, and the channels to what runs inside (guest/stage2).

    results/<name>/   console.log (the kernel's), output.log (the script's), dmesg.log, qemu.log, qmp.sock, job.sh,
                      and whatever the script writes to /results

Owned and called by one Bench, on the only thread there is.
"""

import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

from vmlib import BenchError, machine
from vmlib.machine import Machine

END_MARK = b"\0vm-exit "
KILL_SECONDS = 10


class Guest:
    """Life: started by the constructor; `running` once stage 2 says so; `exit_code` set when the script has ended and
    all of its output has come; `gone` when QEMU has ended and everything it left in the pipes is handled."""

    def __init__(self, name: str, directory: Path, shared: Path, hardware: Machine, links: list[socket.socket],
                 job: dict, shell: bool, prefix: str):  # fmt: skip
        self.name = name
        self.directory = directory
        self.console = directory / machine.CONSOLE_LOG
        self.running = False
        self.exit_code: int | None = None
        self.gone = False
        self.is_shell = shell
        self.stopped = False  # we have asked the script to end
        self._prefix = prefix.encode()
        self._pending = b""
        self._asked = b""
        self._held = b""  # an unfinished line, kept back only while two guests share the terminal
        self._disks = len(hardware.disks)
        self._write_job(job, shell)
        for number, size in enumerate(hardware.disks):
            _make_disk(directory / machine.disk_name(number), size)
        self._output_log = open(directory / "output.log", "wb")
        self.output, output_end = socket.socketpair()
        self.control, control_end = socket.socketpair()
        self.request, request_end = socket.socketpair()
        inherited = [output_end, control_end, request_end, *links]
        ports = {"vm.output": output_end, "vm.control": control_end, "vm.request": request_end}
        words = machine.command(
            hardware, name, directory, shared, {port: end.fileno() for port, end in ports.items()},
            [each.fileno() for each in links], shell,
        )  # fmt: skip
        with open(directory / "qemu.log", "wb") as errors:
            try:
                self.process = subprocess.Popen(
                    words,
                    cwd=directory,
                    stdin=None if shell else subprocess.DEVNULL,
                    stdout=None if shell else subprocess.DEVNULL,
                    stderr=errors,
                    pass_fds=[each.fileno() for each in inherited],
                    # Ctrl-C at the terminal is for us, not for QEMU; a shell's QEMU must keep the terminal.
                    start_new_session=not shell,
                )
            except FileNotFoundError as error:
                raise BenchError(f"{error.filename} is not installed (scripts/install-deps.sh --vm)") from None
        for each in inherited:
            each.close()
        self.pidfd = os.pidfd_open(self.process.pid)

    def has_ended(self) -> bool:
        """Whether nothing more will come of the script."""
        return self.exit_code is not None or self.gone

    def tell(self, word: str) -> None:
        """Send a word to stage 2 ("stop", "blocked", "off"). It waits in the port until somebody reads it."""
        _send(self.control, word)

    def stop(self) -> None:
        """Ask the script to end, unless it has; its death by SIGTERM is then no failure."""
        if not self.has_ended():
            self.stopped = True
            self.tell("stop")

    def feed(self, data: bytes) -> None:
        """Take what came from the guest: pass the script's output on, notice its end."""
        self._pending += data
        before, mark, after = self._pending.partition(END_MARK)
        if mark:
            self._emit(before, whole=True)
            self._pending = mark + after
            if after.endswith(b"\n"):
                self.exit_code = int(after)
                self.tell("off")
        else:
            # The beginning of a mark may be the end of what has come so far.
            cut = before.rfind(b"\0", -len(END_MARK))
            self._pending = before[cut:] if cut >= 0 else b""
            self._emit(before[:cut] if cut >= 0 else before, whole=False)

    def read_requests(self) -> list[str] | None:
        """The requests that are whole now, a line each; None when there will be no more."""
        try:
            data = self.request.recv(1 << 12)
        except ConnectionResetError:  # QEMU went without having read our last answer
            data = b""
        if not data:
            return None
        *lines, self._asked = (self._asked + data).split(b"\n")
        return [line.decode(errors="replace") for line in lines]

    def answer(self, line: str) -> None:
        """Send a line to the script that asked on vm.request."""
        _send(self.request, line)

    def flush(self) -> None:
        """QEMU is gone: pass on what still waits for the end of its line."""
        if self.exit_code is None:
            self._emit(self._pending, whole=True)
            self._pending = b""

    def kill(self) -> None:
        """End QEMU at once and collect it. No harm if it is gone already."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            try:
                self.process.wait(KILL_SECONDS)
            except subprocess.TimeoutExpired:
                print(f"vm: guest {self.name}: QEMU (pid {self.process.pid}) does not die", file=sys.stderr)

    def close(self) -> None:
        """Release everything. The results stay, except for disks and the monitor's socket."""
        self.kill()
        os.close(self.pidfd)
        for channel in (self.output, self.control, self.request, self._output_log):
            channel.close()
        for number in range(self._disks):
            (self.directory / machine.disk_name(number)).unlink(missing_ok=True)
        (self.directory / machine.SOCKET_NAME).unlink(missing_ok=True)

    def _emit(self, data: bytes, whole: bool) -> None:
        self._output_log.write(data)
        self._output_log.flush()
        if self._prefix:
            data = self._held + data
            lines, newline, self._held = data.rpartition(b"\n")
            if whole and self._held:
                lines, newline, self._held = data, b"\n", b""
            data = b"".join(self._prefix + line + b"\n" for line in lines.split(b"\n")) if newline else b""
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()

    def _write_job(self, job: dict, shell: bool) -> None:
        """What stage 2 is to do, as shell variables that it sources."""
        size = shutil.get_terminal_size()
        lines = [f"export {key}={shlex.quote(value)}" for key, value in job["environment"].items()]
        lines += [
            f"vm_mode={'shell' if shell else 'script'}",
            f"vm_command=({shlex.join(job['command'])})",
            f"vm_directory={shlex.quote(job['directory'])}",
            f"vm_rows={size.lines} vm_columns={size.columns}",
        ]
        (self.directory / "job.sh").write_text("\n".join(lines) + "\n")


def _send(channel: socket.socket, line: str) -> None:
    try:
        channel.sendall(line.encode() + b"\n")
    except OSError:
        pass  # QEMU is gone, which the Bench learns from pidfd


def _make_disk(path: Path, size: str) -> None:
    units = {"K": 10, "M": 20, "G": 30}
    digits, unit = (size[:-1], size[-1].upper()) if size[-1:].upper() in units else (size, "")
    if not digits.isdigit():
        raise BenchError(f"--disk {size}: not a size (a number, with K, M or G behind it)")
    with open(path, "wb") as disk:
        disk.truncate(int(digits) << units.get(unit, 0))
