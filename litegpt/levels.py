"""Compressed images decoded at a lower resolution, where their format has it and it is enough.

JPEG 2000 keeps an image as a small one and what has to be added, level by level, to double its sides: the
levels that nobody looks at need not be decoded (ISO 15444-1 B.5, F.3), High-Throughput JPEG 2000's neither.
A JPEG can be decoded from the lower frequencies of each of its blocks of 8 × 8 alone. Torch-free.

What comes out has half, a quarter or an eighth of the sides. Samples of a JPEG 2000 level lie on each
second, fourth or eighth sample of the image, not in the middle between them, so the image begins a fraction
of a pixel inside of what is decoded. Left out of account that is most of the error.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile
from pydicom.encaps import get_frame
from pydicom.uid import JPEG2000TransferSyntaxes, JPEGBaseline8Bit

from litegpt.attributes import MALFORMED
from litegpt.pixel_layout import PixelLayout

_UNREADABLE: Final = (*MALFORMED, MemoryError, OSError, RuntimeError, SyntaxError)
"""What Pillow and its decoders raise over broken codestreams."""

_SIZ: Final = b"\xff\x4f\xff\x51"
_COD: Final = 0xFF52
_SOT: Final = 0xFF90
_SIGNED: Final = 0x80
"""Of a component's Ssiz; the other bits are its precision, less 1."""

_JPEG_MOST: Final = 8
"""A JPEG's sides can be decoded to an eighth."""


@dataclass(frozen=True, slots=True, eq=False)
class Level:
    """An image at a lower resolution.

    Attributes:
        codes: Stored bits, as ``PixelLayout.codes`` gives them, shape (rows, columns).
        extent: Left, top, right and bottom of the whole image, in pixels of ``codes``.
    """

    codes: NDArray[np.unsignedinteger[Any]]
    extent: tuple[float, float, float, float]


def lower_level(pixel_data: bytes, layout: PixelLayout, least: int) -> Level | None:
    """Decodes an image at the lowest resolution of which both sides have at least so many pixels.

    Args:
        pixel_data: Value of Pixel Data, looked at already (``litegpt.codestream``).
        layout: Of the image.
        least: Pixels.

    Returns:
        None where only the whole image will do: it is not larger than that, in another format or form, or
        damaged, which the decoder of the whole image can say best.
    """
    if layout.is_colour or min(layout.rows, layout.columns) < 2 * least:
        return None
    try:
        if layout.transfer_syntax in JPEG2000TransferSyntaxes:
            return _jpeg_2000(get_frame(pixel_data, 0, number_of_frames=1), layout, least)
        if layout.transfer_syntax == JPEGBaseline8Bit:
            return _jpeg(get_frame(pixel_data, 0, number_of_frames=1), layout, least)
    except _UNREADABLE:
        return None
    return None


def _jpeg_2000(frame: bytes, layout: PixelLayout, least: int) -> Level | None:
    codestream = frame[frame.index(_SIZ) :]  # some writers leave a whole JP2 file in the fragment
    if not _is_plain(codestream, layout):
        return None
    shorter, levels = min(layout.rows, layout.columns), _decomposition_levels(codestream)
    level = max((n for n in range(levels + 1) if _halved(shorter, n) >= least), default=0)
    if level == 0:
        return None
    picture = _Jpeg2000Level(codestream, _halved(layout.columns, level), _halved(layout.rows, level), level)
    picture.load()
    codes = np.asarray(picture) >> (16 - layout.bits_stored)  # Pillow gives all samples 16 bits
    if layout.signed:
        codes ^= np.uint16(1 << (layout.bits_stored - 1))  # and begins them at the least one
    inside = (1 - 0.5**level) / 2  # of a pixel of the level: its sample is its first, not its middle
    right, bottom = (inside + side / 2**level for side in (layout.columns, layout.rows))
    return Level(np.pad(codes, ((0, 1), (0, 1)), mode="edge"), (inside, inside, right, bottom))


def _is_plain(codestream: bytes, layout: PixelLayout) -> bool:
    """Whether it has one component, of the same samples as the dataset says, and begins at 0, 0."""
    offsets = struct.unpack_from(">2I8x2I", codestream, 16)  # XOsiz, YOsiz, XTOsiz, YTOsiz
    components, sample, across, down = struct.unpack_from(">H3B", codestream, 40)  # Csiz, Ssiz, XRsiz, YRsiz
    expected = (layout.bits_stored - 1) | (_SIGNED if layout.signed else 0)
    return not any(offsets) and (components, sample, across, down) == (1, expected, 1, 1)


def _decomposition_levels(codestream: bytes) -> int:
    """How often the image was halved, by the COD segment (ISO 15444-1 A.6.1).

    A tile that says otherwise of itself, and less, makes the decoder fail.
    """
    offset = 2
    while True:
        marker, length = struct.unpack_from(">2H", codestream, offset)
        if marker == _SOT:
            raise ValueError("no COD segment")
        if marker == _COD:
            return codestream[offset + 9]
        offset += 2 + length


def _halved(side: int, times: int) -> int:
    """Samples of a level, the last one of an odd number kept (ISO 15444-1 B-15)."""
    return -(-side >> times)


class _Jpeg2000Level(ImageFile.ImageFile):
    """Asks Pillow's decoder for a level. Pillow's own ``reduce`` rounds sides where the format rounds up."""

    format = "JPEG2000"

    def __init__(self, codestream: bytes, columns: int, rows: int, level: int) -> None:
        self._wanted = columns, rows, level, len(codestream)
        super().__init__(BytesIO(codestream))

    def _open(self) -> None:
        columns, rows, level, length = self._wanted
        self._size, self._mode = (columns, rows), "I;16"
        of_decoder = ("j2k", level, 0, -1, length)
        self.tile = [("jpeg2k", (0, 0, columns, rows), 0, of_decoder)]  # type: ignore[list-item]


def _jpeg(frame: bytes, layout: PixelLayout, least: int) -> Level | None:
    if layout.signed or layout.bits_stored != 8:
        return None
    picture = Image.open(BytesIO(frame), formats=("JPEG",))
    if picture.mode != "L":
        return None
    factor = _JPEG_MOST
    while min(layout.rows, layout.columns) // factor < least:
        factor //= 2
    picture.draft("L", (layout.columns // factor, layout.rows // factor))
    codes = np.asarray(picture)  # each a block of factor × factor, the last of them cut off
    if codes.shape != (-(-layout.rows // factor), -(-layout.columns // factor)):
        return None
    return Level(codes, (0.0, 0.0, layout.columns / factor, layout.rows / factor))
