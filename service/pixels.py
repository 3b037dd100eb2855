"""Whether two files hold the same image: what tells a corrected header from other pixels.

A PACS that sends an image again after a patient merge may send it in another transfer syntax than the
modality did, so bytes that differ are decoded. This runs only when one SOP Instance UID came with two
datasets.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Final

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.pixels.utils import pixel_array
from pydicom.uid import UID, ExplicitVRBigEndian

from litegpt.attributes import MALFORMED, integer
from litegpt.codestream import check_codestream
from litegpt.errors import RadiographError
from litegpt.isolation import Broken, Isolation
from litegpt.radiograph import MAXIMUM_PIXELS, plugin_for

log = logging.getLogger(__name__)

_SHAPE: Final = (
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "BitsAllocated",
    "BitsStored",
    "PixelRepresentation",
)


def same_pixels(first: Path, second: Path, isolation: Isolation) -> bool:
    """Whether two whole DICOM files have the same stored pixel values.

    What cannot be decoded counts as different, and so becomes a conflict that a person looks at. So does what
    would have more than ``MAXIMUM_PIXELS``, or another size than its dataset says.

    Args:
        first, second: The files.
        isolation: Where they are decoded, if they must be: some damage ends a decoder's process.
    """
    try:
        one, other = dcmread(first), dcmread(second)
        if any(one.get(keyword) != other.get(keyword) for keyword in _SHAPE):
            return False
        if _encoding(one) == _encoding(other) and one.get("PixelData") == other.get("PixelData"):
            return True
    except MALFORMED:
        return False
    except OSError as error:
        return _different(error)
    try:
        return isolation.call(_same_decoded, first, second)
    except Broken as error:
        log.warning("%s and %s cannot be compared: a decoder %s", first.name, second.name, error)
        return False


def _encoding(dataset: Dataset) -> str:
    """Uncompressed little endian pixels are the same bytes in each of their three syntaxes (PS3.5 8.2)."""
    syntax: UID = dataset.file_meta.TransferSyntaxUID
    return "native" if not syntax.is_encapsulated and syntax != ExplicitVRBigEndian else str(syntax)


def _same_decoded(first: Path, second: Path) -> bool:
    try:
        return bool(np.array_equal(_decoded(dcmread(first)), _decoded(dcmread(second))))
    except (*MALFORMED, RadiographError, MemoryError, RuntimeError):  # the last is what decoders raise
        return False
    except OSError as error:
        return _different(error)


def _different(error: OSError) -> bool:
    """``False`` where an error is about a file's content: over that pydicom raises plain OSErrors, too.

    Raises:
        OSError: The file system's own.
    """
    if error.errno is not None:
        raise error
    return False


def _decoded(dataset: Dataset) -> np.ndarray[Any, Any]:
    syntax: UID = dataset.file_meta.TransferSyntaxUID
    rows, columns, frames = (integer(dataset, keyword) or 0 for keyword in _SHAPE[:3])
    if rows * columns * max(1, frames) > MAXIMUM_PIXELS:
        raise RadiographError("there are too many pixels")
    if syntax.is_encapsulated:
        if frames > 1:
            raise RadiographError("there are several frames, and only the first was looked at")
        check_codestream(dataset.PixelData, syntax, rows, columns)
    return pixel_array(dataset, raw=True, decoding_plugin=plugin_for(syntax))
