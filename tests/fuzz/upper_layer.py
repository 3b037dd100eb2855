"""Streams of upper-layer PDUs (PS3.8 9.3), mostly right and wrong somewhere, built without pynetdicom."""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

DX = "1.2.840.10008.5.1.4.1.1.1.1"
VERIFICATION = "1.2.840.10008.1.1"
IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"

COMMAND, LAST = 1, 2
"""Bits of a message control header (PS3.8 E.2)."""

_HEADER_BYTES = 6

CONTEXTS = ((1, DX, (EXPLICIT,)), (3, VERIFICATION, (IMPLICIT,)))

_uids = st.sampled_from([DX, VERIFICATION, IMPLICIT, EXPLICIT, "", "1.2.3", "1." * 40, "../../x", "\x00"])
_titles = st.sampled_from([b"LITEGPT", b"MODALITY", b"", b" " * 16, b"\xff" * 16, b"A\\B", b"x" * 40])
_numbers = st.sampled_from([0, 1, 2, 3, 255, 65535]) | st.integers(0, 65535)


def _item(kind: int, body: bytes, length: int | None = None) -> bytes:
    return struct.pack(">BBH", kind & 255, 0, (len(body) if length is None else length) & 0xFFFF) + body


def pdu(kind: int, body: bytes, length: int | None = None) -> bytes:
    """One PDU; with a length that may be a lie."""
    return struct.pack(">BBI", kind, 0, len(body) if length is None else length) + body


def association_request(
    contexts: Sequence[tuple[int, str, Sequence[str]]] = (
        (1, DX, (EXPLICIT,)),
        (3, VERIFICATION, (IMPLICIT,)),
    ),
    called: bytes = b"LITEGPT",
    calling: bytes = b"FUZZ",
    user_items: bytes = b"",
) -> bytes:
    """The body of an A-ASSOCIATE-RQ."""
    body = struct.pack(">HH16s16s32x", 1, 0, called.ljust(16)[:16], calling.ljust(16)[:16])
    body += _item(0x10, b"1.2.840.10008.3.1.1.1")
    for number, abstract, transfers in contexts:
        inner = _item(0x30, abstract.encode("latin-1"))
        inner += b"".join(_item(0x40, transfer.encode("latin-1")) for transfer in transfers)
        body += _item(0x20, struct.pack(">B3x", number & 255) + inner)
    user = _item(0x51, struct.pack(">I", 16384)) + _item(0x52, b"1.2.3") + user_items
    return body + _item(0x50, user)


def element(group: int, number: int, value: bytes) -> bytes:
    """One element of a command set, which is always implicit little endian (PS3.7 6.3.1)."""
    value += b"\0" * (len(value) % 2)
    return struct.pack("<HHI", group, number, len(value)) + value


def command(field: int, sop_class: str, sop_instance: str, has_dataset: bool) -> bytes:
    """A command set such as that of a C-STORE-RQ (PS3.7 9.3.1)."""
    body = element(0, 0x0002, sop_class.encode("latin-1"))
    body += element(0, 0x0100, struct.pack("<H", field))
    body += element(0, 0x0110, struct.pack("<H", 1)) + element(0, 0x0700, b"\0\0")
    body += element(0, 0x0800, struct.pack("<H", 1 if has_dataset else 0x0101))
    body += element(0, 0x1000, sop_instance.encode("latin-1"))
    return element(0, 0, struct.pack("<I", len(body))) + body


def value(context: int, header: int, fragment: bytes, length: int | None = None) -> bytes:
    """One presentation data value, of a command or a dataset (PS3.8 9.3.5.1, E.2)."""
    stated = len(fragment) + 2 if length is None else length
    return struct.pack(">IBB", stated & 0xFFFFFFFF, context & 255, header & 255) + fragment


def data(context: int, header: int, fragment: bytes, length: int | None = None) -> bytes:
    """A P-DATA-TF with one PDV."""
    return pdu(4, value(context, header, fragment, length))


def read_pdu(connection: socket.socket) -> tuple[int, bytes]:
    """The next PDU that comes: its type and its body.

    Raises:
        ConnectionError: If the peer has left before its end.
    """
    header = _exactly(connection, _HEADER_BYTES)
    return header[0], _exactly(connection, int.from_bytes(header[2:], "big"))


def _exactly(connection: socket.socket, number: int) -> bytes:
    content = b""
    while len(content) < number:
        part = connection.recv(number - len(content))
        if not part:
            raise ConnectionError("the peer has left")
        content += part
    return content


_lies: SearchStrategy[int | None] = (
    st.none() | st.sampled_from([0, 1, 5, 2**31, 2**32 - 1]) | st.integers(0, 400)
)
_noise = st.binary(max_size=80)

_user_items = st.lists(
    st.builds(_item, st.sampled_from([0x51, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59, 0xFF]), _noise, _lies),
    max_size=3,
).map(b"".join)

_requests = st.builds(
    association_request,
    st.lists(st.tuples(_numbers, _uids, st.lists(_uids, max_size=3)), max_size=4),
    _titles,
    _titles,
    _user_items,
)

_commands = st.builds(
    command,
    st.sampled_from([0x0001, 0x0020, 0x0021, 0x0010, 0x0030, 0x8001, 0x0FFF, 0x0100, 0x0130, 0xFFFF]),
    _uids,
    _uids,
    st.booleans(),
)

_datasets = st.builds(
    lambda parts: b"".join(parts),
    st.lists(
        st.builds(
            lambda group, number, vr, length, value: struct.pack("<HH2sH", group, number, vr, length) + value,
            st.sampled_from([0x0008, 0x0010, 0x0020, 0x0028, 0x7FE0, 0xFFFE]),
            st.sampled_from([0x0016, 0x0018, 0x0010, 0x000D, 0x000E, 0xE000, 0xE0DD]),
            st.sampled_from([b"UI", b"SQ", b"OB", b"OW", b"US", b"PN", b"??"]),
            _numbers,
            _noise,
        ),
        max_size=5,
    ),
)

_right_request = st.just(pdu(1, association_request()))
_messages = st.one_of(
    _right_request,
    st.builds(pdu, st.just(1), _requests, _lies),
    st.builds(data, _numbers, _numbers, _commands | _datasets | _noise, _lies),
    st.builds(data, st.just(1), st.just(3), _commands),
    st.builds(data, st.just(3), st.just(3), _commands),
    st.just(data(1, 3, command(0x0001, DX, "1.2.3", True))),
    st.builds(data, st.just(1), st.sampled_from([0, 2]), _datasets),
    st.builds(pdu, st.integers(0, 255), _noise, _lies),
    st.just(pdu(5, b"\0" * 4)),
    st.just(pdu(7, b"\0" * 4)),
    _noise,
)

conversations: SearchStrategy[tuple[bytes, bytes]] = st.tuples(
    _right_request | _right_request | _messages,
    st.builds(
        lambda parts, cut: b"".join(parts)[: None if cut is None else cut],
        st.lists(_messages, max_size=6),
        st.none() | st.integers(0, 200),
    ),
)
"""What one connection may bring: at once, and when that was answered."""
