"""Whether two files hold the same image: what tells a corrected header from other pixels.

A PACS that sends an image again after a patient merge may send it in another transfer syntax than the
modality did, so bytes that differ are decoded. This runs only when one SOP Instance UID came with two
datasets.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import pixel_array
from pydicom.uid import UID, ExplicitVRBigEndian

from litegpt.attributes import MALFORMED, integer
from litegpt.codestream import check_codestream
from litegpt.errors import RadiographError
from litegpt.radiograph import MAXIMUM_PIXELS

_SHAPE: Final = (
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "BitsAllocated",
    "BitsStored",
    "PixelRepresentation",
)

_UNSAFE_PLUGIN: Final = "gdcm"
"""It ends the whole process on some damaged images; a listener must not."""


def same_pixels(first: Path, second: Path) -> bool:
    """Whether two whole DICOM files have the same stored pixel values.

    What cannot be decoded safely counts as different, and so becomes a conflict that a person looks at. So
    does what would have more than ``MAXIMUM_PIXELS``, or another size than its dataset says.
    """
    try:
        one, other = dcmread(first), dcmread(second)
        if any(one.get(keyword) != other.get(keyword) for keyword in _SHAPE):
            return False
        if _encoding(one) == _encoding(other) and one.get("PixelData") == other.get("PixelData"):
            return True
    except MALFORMED:
        return False
    pixels, others = _decoded(one), _decoded(other)
    return pixels is not None and others is not None and bool(np.array_equal(pixels, others))


def _encoding(dataset: Dataset) -> str:
    """Uncompressed little endian pixels are the same bytes in each of their three syntaxes (PS3.5 8.2)."""
    syntax: UID = dataset.file_meta.TransferSyntaxUID
    return "native" if not syntax.is_encapsulated and syntax != ExplicitVRBigEndian else str(syntax)


def _decoded(dataset: Dataset) -> np.ndarray[Any, Any] | None:
    syntax: UID = dataset.file_meta.TransferSyntaxUID
    try:
        rows, columns, frames = (integer(dataset, keyword) or 0 for keyword in _SHAPE[:3])
        if rows * columns * max(1, frames) > MAXIMUM_PIXELS:
            return None
        if not syntax.is_encapsulated:
            return pixel_array(dataset, raw=True)
        if frames > 1:  # of which only the first could be looked at before
            return None
        check_codestream(dataset.PixelData, syntax, rows, columns)
        plugins = [name for name in get_decoder(syntax).available_plugins if name != _UNSAFE_PLUGIN]
        return pixel_array(dataset, raw=True, decoding_plugin=plugins[0]) if plugins else None
    except (*MALFORMED, RadiographError, MemoryError, RuntimeError):  # the last is what decoders raise
        return None
    except BaseException as error:
        if type(error).__name__ == "PanicException":  # of the RLE decoder, which is written in Rust
            return None
        raise
