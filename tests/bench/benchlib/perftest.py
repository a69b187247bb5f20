# SPDX-License-Identifier: Apache-2.0
"""How perftest's programs are told which device to use. They meet by TCP: with rdma_cm (-R) they crash now and then."""

from pathlib import Path

from benchlib import BenchError

PORT = 18515
_IPV4 = "0000:0000:0000:0000:0000:ffff:"


def device_words() -> list[str]:
    """The first RDMA device that has an IPv4 address, and which GID that is."""
    for port in sorted(Path("/sys/class/infiniband").glob("*/ports/1")):
        for index in range(16):
            if _gid(port, index).startswith(_IPV4) and "v2" in (port / f"gid_attrs/types/{index}").read_text():
                return ["-d", port.parent.parent.name, "-x", str(index)]
    raise BenchError("no RDMA device with an IPv4 address")


def _gid(port: Path, index: int) -> str:
    try:
        return (port / f"gids/{index}").read_text()
    except OSError:  # an unset one
        return ""
