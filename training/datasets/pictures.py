"""The image file of an example as a radiograph: DICOM, PNG or JPEG. Torch-free.

A PNG or JPEG has no window to apply: 8 bits are shown as they are, colours by their luminance, and 16 bits as
a DICOM image that brings no window, between percentiles.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from pydicom.dataset import Dataset

from litegpt.errors import RadiographError
from litegpt.grayscale import Grayscale, StoredValues
from litegpt.radiograph import MAXIMUM_PIXELS, Radiograph, read_radiograph

_SUFFIXES: Final = (".png", ".jpg", ".jpeg")

_SIXTEEN_BITS: Final = ("I;16", "I;16B", "I;16L", "I;16N", "I")
"""Pillow's names of 16-bit gray PNGs; ``I`` is what older ones open them as."""

_EIGHT_BITS: Final = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")


def is_picture(file: Path) -> bool:
    """Whether a file is a PNG or JPEG by its name; any other is taken for DICOM."""
    return file.suffix.lower() in _SUFFIXES


def read_image(file: Path, *, maximum_pixels: int = MAXIMUM_PIXELS) -> Radiograph:
    """Reads an image of any of these kinds as it is displayed; nothing is turned, flipped or resized.

    Args:
        file: DICOM, or PNG or JPEG by its name.
        maximum_pixels: Rows × columns of the largest that is decoded.

    Raises:
        RadiographError: If the file will never give a radiograph.
        OSError: If the file itself cannot be read, which may pass.
    """
    if not is_picture(file):
        return read_radiograph(file, maximum_pixels=maximum_pixels)
    pixels = _decoded(file, maximum_pixels)  # (rows, columns) uint8 or uint16
    if pixels.dtype == np.uint8:
        if np.ptp(pixels) == 0:
            raise RadiographError("all pixels of the image have the same value: there is nothing to read")
        return Radiograph(pixels)
    dataset = Dataset()
    dataset.PhotometricInterpretation = "MONOCHROME2"
    return Radiograph(Grayscale.of(dataset, StoredValues.of(pixels, 16, signed=False)).table()[pixels])


def _decoded(file: Path, maximum_pixels: int) -> NDArray[Any]:
    """(rows, columns) uint8 or uint16."""
    try:
        with Image.open(file, formats=("PNG", "JPEG")) as image:
            if image.width * image.height > maximum_pixels:
                raise RadiographError(
                    f"{image.height} × {image.width} pixels are more than the {maximum_pixels} allowed"
                )
            if image.mode in _SIXTEEN_BITS:
                return np.asarray(image).astype(np.uint16)  # (rows, columns)
            if image.mode in _EIGHT_BITS:
                return np.asarray(image.convert("L"))  # (rows, columns)
            raise RadiographError(f"pixels of mode {image.mode} are no radiograph's")
    except UnidentifiedImageError:
        raise RadiographError("neither PNG nor JPEG, as its name says") from None
    except Image.DecompressionBombError as error:
        raise RadiographError(f"cannot be read: {error}") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the file system's own; Pillow raises plain OSErrors over content
        raise RadiographError(f"cannot be decoded: {' '.join(str(error).split())[:300]}") from None
