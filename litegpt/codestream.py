"""Looks at a compressed image before a decoder does: is it whole, and as large as the dataset says?

The decoders allocate what the codestream asks for, whatever Rows and Columns say, and several fill what is
missing at the end with gray instead of failing; a half-gray radiograph must not be read as one.
"""

from __future__ import annotations

import struct
from typing import Final

from pydicom.encaps import get_frame
from pydicom.uid import (
    UID,
    JPEG2000TransferSyntaxes,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
)

from litegpt.errors import RadiographError

_END_OF_IMAGE: Final = b"\xff\xd9"
"""EOI of JPEG and JPEG-LS, EOC of JPEG 2000: the last two bytes of a codestream, padding apart."""
_START_OF_FRAME: Final = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}
"""JPEG's SOF markers (ISO 10918-1 table B.1) and JPEG-LS's (ISO 14495-1)."""
_WITHOUT_LENGTH: Final = frozenset({0x01, *range(0xD0, 0xD9), 0xFF})
_SIZ: Final = b"\xff\x51"


def check_codestream(pixel_data: bytes, transfer_syntax: UID, rows: int, columns: int) -> None:
    """Checks the first frame of JPEG, JPEG-LS or JPEG 2000 pixel data; passes every other transfer syntax.

    Args:
        pixel_data: Value of an encapsulated Pixel Data element.
        transfer_syntax: Its transfer syntax.
        rows: Rows as the dataset says.
        columns: Columns as the dataset says.

    Raises:
        RadiographError: If the codestream is cut short or has another size.
    """
    is_jpeg = transfer_syntax in (*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes)
    is_jpeg_2000 = transfer_syntax in JPEG2000TransferSyntaxes
    if not is_jpeg and not is_jpeg_2000:
        return
    try:
        frame = get_frame(pixel_data, 0, number_of_frames=1)
        size = _jpeg_size(frame) if is_jpeg else _jpeg_2000_size(frame)
    except (ValueError, IndexError, struct.error, EOFError) as error:
        raise RadiographError("the compressed pixel data is truncated or damaged") from error
    if size != (rows, columns):
        raise RadiographError(
            f"the compressed image has {size[0]} × {size[1]} pixels, the dataset says {rows} × {columns}"
        )
    if not frame.rstrip(b"\0").endswith(_END_OF_IMAGE):
        raise RadiographError("the compressed pixel data is truncated")


def _jpeg_size(frame: bytes) -> tuple[int, int]:
    """Rows and columns of a JPEG or JPEG-LS codestream, from its SOF segment."""
    if frame[:2] != b"\xff\xd8":
        raise ValueError("no SOI marker")
    offset = 2
    while True:
        if frame[offset] != 0xFF:
            raise ValueError("no marker where one is due")
        marker = frame[offset + 1]
        if marker in _START_OF_FRAME:
            rows, columns = struct.unpack_from(">HH", frame, offset + 5)
            return rows, columns
        if marker in _WITHOUT_LENGTH:
            offset += 1 if marker == 0xFF else 2
        else:
            offset += 2 + struct.unpack_from(">H", frame, offset + 2)[0]


def _jpeg_2000_size(frame: bytes) -> tuple[int, int]:
    """Rows and columns of a JPEG 2000 codestream, bare or in a JP2 file, from its SIZ segment."""
    # SIZ follows SOC at once (ISO 15444-1 A.5.1); some writers leave a whole JP2 file in the fragment
    start = frame.index(b"\xff\x4f" + _SIZ)
    width, height, left, top = struct.unpack_from(">4I", frame, start + 8)
    return height - top, width - left
