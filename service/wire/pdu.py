"""A PDU as it comes, and what a P-DATA-TF holds: nothing is copied."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

P_DATA: Final = 4
"""PDU type of a P-DATA-TF (PS3.8 9.3.5)."""

IS_COMMAND, IS_LAST = 1, 2
"""Bits of the message control header (PS3.8 E.2)."""

_LENGTH_BYTES: Final = 4
_VALUE_HEADER: Final = struct.Struct(">IBB")
"""Of a presentation data value: length, presentation context, message control header (PS3.8 9.3.5.1, E.2)."""


@dataclass(frozen=True, slots=True)
class Value:
    """A presentation data value (PS3.8 9.3.5.1): a fragment of a command or of a dataset.

    Attributes:
        control: Its message control header (PS3.8 E.2).
    """

    context_id: int
    control: int
    content: memoryview

    @property
    def is_command(self) -> bool:
        """Whether it is a fragment of a command."""
        return bool(self.control & IS_COMMAND)

    @property
    def is_last(self) -> bool:
        """Whether it is the last one of that."""
        return bool(self.control & IS_LAST)


@dataclass(frozen=True, slots=True)
class Pdu:
    """One that was read.

    Attributes:
        header: Type and length.
        body: Shorter where the peer has left in its midst.
    """

    header: bytearray
    body: bytearray

    def values(self) -> list[Value]:
        """Those of a P-DATA-TF; none where it is something else, or its lengths do not fit."""
        if self.header[0] != P_DATA or len(self.body) != int.from_bytes(self.header[2:], "big"):
            return []
        values, at, view = [], 0, memoryview(self.body)
        while at < len(view):
            start = at + _VALUE_HEADER.size
            if start > len(view):
                return []
            length, context_id, control = _VALUE_HEADER.unpack_from(view, at)
            end = at + _LENGTH_BYTES + length
            if not start <= end <= len(view):
                return []
            values.append(Value(context_id, control, view[start:end]))
            at = end
        return values
