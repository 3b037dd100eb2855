"""The two messages of a C-STORE, and the beginning of the file that it becomes, without a dataset's detour.

A command set is implicit VR little endian, whatever the association speaks (PS3.7 6.3.1). What is not written
as every sender writes it is not read here: pynetdicom says what is to become of it.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Final, Self

from pynetdicom import PYNETDICOM_IMPLEMENTATION_UID, PYNETDICOM_IMPLEMENTATION_VERSION

from service.wire.pdu import IS_COMMAND, IS_LAST, P_DATA

C_STORE_RQ: Final = 0x0001
_C_STORE_RSP: Final = 0x8001
NO_DATASET: Final = 0x0101
"""Command Data Set Type (0000,0800) of a command that comes alone (PS3.7 E.1)."""

_GROUP_LENGTH, _SOP_CLASS, _FIELD, _MESSAGE_ID, _ANSWERS = 0x0000, 0x0002, 0x0100, 0x0110, 0x0120
_PRIORITY, _DATASET_TYPE, _STATUS, _SOP_INSTANCE = 0x0700, 0x0800, 0x0900, 0x1000
_MOVED_FOR, _MOVED_BY_MESSAGE = 0x1030, 0x1031
"""Elements of group 0000 (PS3.7 E.1)."""

_NEEDED: Final = frozenset({_SOP_CLASS, _FIELD, _MESSAGE_ID, _PRIORITY, _DATASET_TYPE, _SOP_INSTANCE})
_KNOWN: Final = _NEEDED | {_GROUP_LENGTH, _MOVED_FOR, _MOVED_BY_MESSAGE}
_LENGTHS: Final = {
    _GROUP_LENGTH: 4,
    **dict.fromkeys((_FIELD, _MESSAGE_ID, _PRIORITY, _DATASET_TYPE, _MOVED_BY_MESSAGE), 2),
}
_PRIORITIES: Final = range(3)
_UID: Final = re.compile(rb"[0-9.]{1,64}")
_TITLE: Final = re.compile(rb"[ !-\[\]-~]{0,16}")


@dataclass(frozen=True, slots=True)
class StoreRequest:
    """The command of a C-STORE-RQ that a dataset follows (PS3.7 9.3.1.1).

    Attributes:
        message_id: Message ID, which the reply repeats.
        moved_for: Move Originator Application Entity Title: who asked the sender for it, if anybody.
    """

    message_id: int
    sop_class_uid: str
    sop_instance_uid: str
    moved_for: str = ""

    @classmethod
    def read(cls, command: bytes) -> Self | None:
        """Reads one; ``None`` for another command, and for one that is not as it should be."""
        elements = _elements(command)
        if elements is None or not _NEEDED <= elements.keys() <= _KNOWN:
            return None
        if any(len(value) != _LENGTHS.get(element, len(value)) for element, value in elements.items()):
            return None
        field, dataset_type = _number(elements[_FIELD]), _number(elements[_DATASET_TYPE])
        sop_class, sop_instance = (elements[one].rstrip(b"\0") for one in (_SOP_CLASS, _SOP_INSTANCE))
        moved_for = elements.get(_MOVED_FOR, b"")
        if (
            field != C_STORE_RQ
            or dataset_type == NO_DATASET
            or _number(elements[_PRIORITY]) not in _PRIORITIES
            or not (
                _UID.fullmatch(sop_class) and _UID.fullmatch(sop_instance) and _TITLE.fullmatch(moved_for)
            )
        ):
            return None
        return cls(
            message_id=_number(elements[_MESSAGE_ID]),
            sop_class_uid=sop_class.decode("ascii"),
            sop_instance_uid=sop_instance.decode("ascii"),
            moved_for=moved_for.decode("ascii").strip(),
        )

    def reply(self, context_id: int, status: int) -> bytes:
        """The P-DATA-TF with its C-STORE-RSP (PS3.7 9.3.1.2, PS3.8 9.3.5)."""
        command = b"".join(
            (
                _element(_SOP_CLASS, _even(self.sop_class_uid)),
                _element(_FIELD, struct.pack("<H", _C_STORE_RSP)),
                _element(_ANSWERS, struct.pack("<H", self.message_id)),
                _element(_DATASET_TYPE, struct.pack("<H", NO_DATASET)),
                _element(_STATUS, struct.pack("<H", status)),
                _element(_SOP_INSTANCE, _even(self.sop_instance_uid)),
            )
        )
        command = _element(_GROUP_LENGTH, struct.pack("<I", len(command))) + command
        value = struct.pack(">IBB", len(command) + 2, context_id, IS_COMMAND | IS_LAST) + command
        return struct.pack(">BxI", P_DATA, len(value)) + value

    def file_begins_with(self, transfer_syntax_uid: str) -> bytes:
        """Preamble and file meta information of the file that its dataset goes into (PS3.10 7.1)."""
        meta = b"".join(
            (
                struct.pack("<HH2sxxI", 2, 0x0001, b"OB", 2) + b"\0\1",
                _meta(0x0002, b"UI", _even(self.sop_class_uid)),
                _meta(0x0003, b"UI", _even(self.sop_instance_uid)),
                _meta(0x0010, b"UI", _even(transfer_syntax_uid)),
                _meta(0x0012, b"UI", _even(PYNETDICOM_IMPLEMENTATION_UID)),
                _meta(0x0013, b"SH", _even(PYNETDICOM_IMPLEMENTATION_VERSION, b" ")),
            )
        )
        return bytes(128) + b"DICM" + _meta(0x0000, b"UL", struct.pack("<I", len(meta))) + meta


def _elements(command: bytes) -> dict[int, bytes] | None:
    """The elements of a command set, each once and in order; ``None`` where they are not."""
    elements: dict[int, bytes] = {}
    at, last = 0, -1
    while at < len(command):
        if len(command) - at < 8:
            return None
        group, element, length = struct.unpack_from("<HHI", command, at)
        at += 8
        if group or element <= last or length > len(command) - at:
            return None
        elements[element], last = command[at : at + length], element
        at += length
    return elements


def _number(value: bytes) -> int:
    return int.from_bytes(value, "little")


def _even(text: str, pad: bytes = b"\0") -> bytes:
    encoded = text.encode("ascii")
    return encoded + pad if len(encoded) % 2 else encoded


def _element(element: int, value: bytes) -> bytes:
    return struct.pack("<HHI", 0, element, len(value)) + value


def _meta(element: int, representation: bytes, value: bytes) -> bytes:
    return struct.pack("<HH2sH", 2, element, representation, len(value)) + value
