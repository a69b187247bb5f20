# SPDX-License-Identifier: Apache-2.0
"""The QEMU monitor (QMP) of a running guest: one command per connection, because QEMU serves one client at a time."""

import json
import os
import socket
from pathlib import Path

from vmlib import BenchError

SOCKET_NAME = "qmp.sock"
ANSWER_SECONDS = 10


def execute(guest_directory: Path, command: str, arguments: dict) -> dict:
    """Run one QMP command on the guest whose results directory this is. Raises BenchError; blocks ANSWER_SECONDS at
    most per answer."""
    try:
        # The path may be longer than a socket address can be; through the directory's descriptor it is not.
        directory = os.open(guest_directory, os.O_PATH)
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(ANSWER_SECONDS)
                connection.connect(f"/proc/self/fd/{directory}/{SOCKET_NAME}")
                with connection.makefile("rwb") as stream:
                    json.loads(stream.readline())  # the greeting
                    _ask(stream, "qmp_capabilities", {})
                    return _ask(stream, command, arguments)
        finally:
            os.close(directory)
    except (OSError, ValueError) as error:
        raise BenchError(f"QEMU's monitor in {guest_directory}: {error}") from None


def set_link(guest_directory: Path, link: int, on: bool) -> None:
    """Plug in or pull the cable of eth<link>: the guest sees its carrier go, and nothing passes in either direction."""
    execute(guest_directory, "set_link", {"name": f"link{link}", "up": on})


def reset(guest_directory: Path) -> None:
    """Press the machine's reset button: it boots again, with what its disks hold."""
    # Without this a reset is the end of QEMU. It stays: the firmware resets the machine once more by itself.
    execute(guest_directory, "set-action", {"reboot": "reset"})
    execute(guest_directory, "system_reset", {})


def _ask(stream, command: str, arguments: dict) -> dict:
    stream.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
    stream.flush()
    while True:
        line = stream.readline()
        if not line:
            raise BenchError(f"QEMU closed its monitor before it answered {command}")
        answer = json.loads(line)
        if "return" in answer:
            return answer["return"]
        if "error" in answer:
            raise BenchError(f"QEMU refused {command} {arguments}: {answer['error']['desc']}")
        # Anything else is an event that nobody asked for.
