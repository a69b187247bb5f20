# SPDX-License-Identifier: Apache-2.0
"""RTRS as it goes over the wire: reads a capture of RoCEv2 packets and gives back who said what to whom.

    REQ, REP, REJ     the connection managers' messages: fields and private data
    messages          what was sent and written on the connections, put together from its packets

Nothing of RTRS or RNBD is judged here; wire_check compares.
"""

import struct
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

ROCE_PORT = 4791
CM_QP = 1
CM_REQ, CM_REJ, CM_REP = 0x10, 0x12, 0x13
MAD_HEADER = 24

# BTH opcodes of reliable connections: how a message goes on, and which headers follow.
SEND = {0x00: "first", 0x01: "middle", 0x02: "last", 0x03: "last imm", 0x04: "only", 0x05: "only imm",
        0x16: "last inv", 0x17: "only inv"}  # fmt: skip
WRITE = {0x06: "first", 0x07: "middle", 0x08: "last", 0x09: "last imm", 0x0A: "only", 0x0B: "only imm"}
UD_SEND_ONLY = 0x64


@dataclass
class Connect:
    """A REQ and what came back."""

    client: str  # address
    server: str
    request: dict
    private: bytes
    client_qp: int
    reply: dict = field(default_factory=dict)
    answer: bytes = b""  # private data of REP or REJ
    server_qp: int | None = None

    @property
    def cid(self) -> int:
        return struct.unpack_from("<H", self.private, 36 + 6)[0]  # behind the CMA's header


@dataclass
class Message:
    """One send or RDMA write, whole."""

    connect: Connect
    to_server: bool
    kind: str  # send or write
    data: bytes
    immediate: int | None = None
    invalidates: bool = False


def read(capture: Path) -> tuple[list[Connect], list[Message]]:
    """All connections that were asked for in the capture, and their messages in the order of the wire."""
    connects: dict[tuple[str, int], Connect] = {}  # by client and its communication id
    by_qp: dict[tuple[str, int], tuple[Connect, bool]] = {}  # by receiving address and queue pair
    open_messages: dict[tuple[str, int], Message] = {}
    last_psn: dict[tuple[str, int], int] = defaultdict(lambda: -1)
    messages = []
    for source, target, packet in _roce_packets(capture):
        opcode, flags, _, qp, psn = struct.unpack_from(">BBHII", packet)
        qp, psn = qp & 0xFFFFFF, psn & 0xFFFFFF
        payload = packet[12 : len(packet) - 4 - (flags >> 4 & 3)]  # without the checksum and the padding
        if opcode == UD_SEND_ONLY and qp == CM_QP:
            _management(source, target, payload[8:], connects, by_qp)
        elif (opcode in SEND or opcode in WRITE) and (target, qp) in by_qp:
            key = (target, qp)
            if psn == last_psn[key]:
                continue  # sent again
            last_psn[key] = psn
            message = _piece(opcode, payload, key, by_qp, open_messages)
            if message:
                messages.append(message)
    return list(connects.values()), messages


def _management(source: str, target: str, mad: bytes, connects: dict, by_qp: dict) -> None:
    if mad[1] != 7:  # communication management
        return
    attribute = struct.unpack_from(">H", mad, 16)[0]
    cm = mad[MAD_HEADER:]
    local, remote = struct.unpack_from(">II", cm)
    if attribute == CM_REQ:
        service = struct.unpack_from(">Q", cm, 8)[0]
        if (source, local) in connects or service & 0xFFFF == 0:
            return  # sent again; or a knock (src/transport/verbs/knock.h), which asks for port 0
        qp_and_resources, depth, timeout, psn = struct.unpack_from(">IIII", cm, 32)
        request = {
            "service id": f"{service:#018x}",
            "responder resources": qp_and_resources & 0xFF,
            "initiator depth": depth & 0xFF,
            "transport": timeout >> 1 & 3,
            "flow control": timeout & 1,
            "retry count": psn & 7,
            "RNR retry count": cm[50] & 7,
            "path MTU": cm[50] >> 4,
            "SRQ": cm[51] >> 3 & 1,
        }
        made = Connect(source, target, request, cm[140:232], qp_and_resources >> 8)
        connects[source, local] = made
        by_qp[source, made.client_qp] = (made, False)
    elif attribute in (CM_REP, CM_REJ) and (target, remote) in connects:
        made = connects[target, remote]
        if made.reply:
            return
        if attribute == CM_REJ:
            made.reply = {"reject reason": struct.unpack_from(">H", cm, 10)[0]}
            made.answer = cm[84:232]
            return
        made.server_qp = struct.unpack_from(">I", cm, 12)[0] >> 8
        made.reply = {
            "responder resources": cm[24],
            "initiator depth": cm[25],
            "flow control": cm[26] & 1,
            "RNR retry count": cm[27] >> 5,
            "SRQ": cm[27] >> 4 & 1,
        }
        made.answer = cm[36:232]
        by_qp[source, made.server_qp] = (made, True)


def _piece(opcode: int, payload: bytes, key: tuple, by_qp: dict, open_messages: dict) -> Message | None:
    """Adds a packet to its message; the message if that was the last one."""
    writes = opcode in WRITE
    what = (WRITE if writes else SEND)[opcode]
    if what.startswith(("first", "only")):
        connect, to_server = by_qp[key]
        open_messages[key] = Message(connect, to_server, "write" if writes else "send", b"")
        if writes:
            payload = payload[16:]  # address, key, length
    message = open_messages.get(key)
    if message is None:
        return None  # the capture began in the middle
    if what.endswith("imm"):
        message.immediate = struct.unpack_from(">I", payload)[0]
        payload = payload[4:]
    elif what.endswith("inv"):
        message.invalidates = True
        payload = payload[4:]
    message.data += payload
    return open_messages.pop(key) if what.startswith(("last", "only")) else None


def _roce_packets(capture: Path):
    """(source, destination, transport packet) of each RoCEv2 packet over IPv4 in a pcap file of Ethernet frames."""
    content = capture.read_bytes()
    order = "<" if content[:4] in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1") else ">"
    at = 24
    while at + 16 <= len(content):
        length, whole = struct.unpack_from(f"{order}II", content, at + 8)
        frame = content[at + 16 : at + 16 + length]
        at += 16 + length
        if len(frame) < 34 or frame[12:14] != b"\x08\x00" or frame[23] != 17 or length != whole:
            continue
        header = (frame[14] & 15) * 4
        total = struct.unpack_from(">H", frame, 16)[0]
        source, target = (".".join(map(str, frame[at_ : at_ + 4])) for at_ in (26, 30))
        udp = frame[14 + header : 14 + total]
        if struct.unpack_from(">H", udp, 2)[0] == ROCE_PORT:
            yield source, target, udp[8:]
