"""A DICOM image becomes a radiograph: 8-bit display values, as a viewer would show it. Torch-free.

Decodes the pixels (here), then runs the grayscale transformation pipeline (``litegpt.grayscale``). Whether an
image is one that should be read at all, a frontal chest view For Presentation, is not asked here.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut
from pydicom.pixels.utils import as_pixel_options
from pydicom.uid import UID

from litegpt.attributes import MALFORMED
from litegpt.codestream import check_codestream
from litegpt.errors import RadiographError, one_line
from litegpt.grayscale import Grayscale
from litegpt.pixel_layout import PixelLayout, pixel_data

MAXIMUM_PIXELS: Final = 100_000_000
"""Rows × Columns of the largest image read by default; the largest detectors have about 20 million."""

_LUMINANCE: Final = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the luminance Y (PS3.3 C.7.6.3.1.2, YBR_FULL)."""

_PLUGINS: Final = ("pyjpegls", "pylibjpeg", "pillow", "gdcm")
"""Decoders of pydicom, best first, one to an image. Left to itself pydicom tries all of them on a damaged
image, and GDCM aborts the whole process over some damaged JPEG-LS; so it decodes only what no other can (JPEG
Lossless).
"""

UNREADABLE: Final = (*MALFORMED, MemoryError, RuntimeError, zlib.error)
"""What pydicom and the decoders raise over broken files."""


@dataclass(frozen=True, slots=True, eq=False)
class Radiograph:
    """One image as it is displayed.

    Attributes:
        pixels: uint8, shape (rows, columns), 255 = brightest as displayed (MONOCHROME2 sense). Row 0 is the
            top, column 0 the left of the stored matrix; nothing is turned, flipped or resized.
        grayscale: How the stored values became these; None for colour, and where there are no stored values.
    """

    pixels: NDArray[np.uint8]
    grayscale: Grayscale | None = None

    @property
    def rows(self) -> int:
        """Height in pixels."""
        return int(self.pixels.shape[0])

    @property
    def columns(self) -> int:
        """Width in pixels."""
        return int(self.pixels.shape[1])


def read_radiograph(source: Path | Dataset, *, maximum_pixels: int = MAXIMUM_PIXELS) -> Radiograph:
    """Reads one DICOM image as it should be displayed.

    Modality LUT, then the first VOI LUT or window (a percentile window where there is none), then the
    polarity (PS3.3 C.11.1, C.11.2, C.8.11.3.1.2). Colour images give their luminance.

    Args:
        source: A DICOM file, or a dataset with its file meta information and Pixel Data.
        maximum_pixels: Largest Rows × Columns; checked before anything is decoded.

    Raises:
        RadiographError: If this object will never give a radiograph: no DICOM, no image, several frames, too
            large, pixel data truncated or undecodable, one value everywhere. Its message is one line.
        OSError: If the file itself cannot be read, which may pass.
    """
    return displayed(*open_image(source, maximum_pixels))


def open_image(source: Path | Dataset, maximum_pixels: int) -> tuple[Dataset, PixelLayout]:
    """An image's dataset and layout, and its compressed pixels looked at: all that comes before decoding.

    Args, raises: As ``read_radiograph``.
    """
    dataset = source if isinstance(source, Dataset) else _read_file(source)
    layout = PixelLayout.of(dataset, maximum_pixels)
    syntax = layout.transfer_syntax
    if syntax.is_private or not syntax.is_transfer_syntax:
        raise RadiographError(f"the transfer syntax {syntax} is unknown")
    check_codestream(pixel_data(dataset), syntax, layout.rows, layout.columns)
    return dataset, layout


def displayed(dataset: Dataset, layout: PixelLayout) -> Radiograph:
    """An image that was opened, as it should be displayed.

    Raises:
        RadiographError: As ``read_radiograph``.
    """
    pixels = _decode(dataset, layout)  # (rows, columns) or (rows, columns, 3)
    if layout.is_colour:
        return Radiograph(_luminance(dataset, pixels, layout))
    codes = layout.codes(pixels)  # (rows, columns)
    grayscale = Grayscale.of_image(dataset, codes, layout.bits_stored, layout.signed)
    return Radiograph(grayscale.show(codes), grayscale)


def _read_file(path: Path) -> Dataset:
    try:
        return dcmread(path)
    except InvalidDicomError:
        raise RadiographError("the file is not a DICOM file") from None
    except (*UNREADABLE, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the file system's own; pydicom raises plain OSErrors over content
        raise RadiographError(f"the file is not readable as DICOM: {one_line(error)}") from error


def _decode(dataset: Dataset, layout: PixelLayout) -> NDArray[Any]:
    """Stored pixel values, (rows, columns), or (rows, columns, 3) RGB."""
    # The number of frames was checked above, and files say 0 or nothing where one is meant. ``codes`` deals
    # with the unused bits: pydicom's correction would shift stored bits out where High Bit is unusual.
    options = as_pixel_options(dataset, number_of_frames=1, correct_unused_bits=False)
    try:
        decoder, plugin = get_decoder(layout.transfer_syntax), plugin_for(layout.transfer_syntax)
        pixels, _ = decoder.as_array(dataset, index=0, decoding_plugin=plugin, **options)
    except BaseException as error:
        # Some damage makes the RLE decoder, written in Rust, panic: a class outside Exception, named nowhere
        if not isinstance(error, (*UNREADABLE, OSError)) and type(error).__name__ != "PanicException":
            raise
        raise RadiographError(
            f"the pixel data ({layout.transfer_syntax.name}) cannot be decoded: {one_line(error)}"
        ) from error
    expected = (layout.rows, layout.columns) if layout.samples == 1 else (layout.rows, layout.columns, 3)
    if pixels.shape != expected or pixels.dtype.itemsize > 2:
        raise RadiographError(f"the pixel data decode to {pixels.shape} where {expected} was announced")
    return pixels


def plugin_for(transfer_syntax: UID) -> str:
    """pydicom's plugin to decode with; "" lets pydicom try one after the other, or needs none."""
    if not transfer_syntax.is_encapsulated:
        return ""
    available = get_decoder(transfer_syntax).available_plugins
    return next((name for name in _PLUGINS if name in available), "")


def _luminance(dataset: Dataset, pixels: NDArray[Any], layout: PixelLayout) -> NDArray[np.uint8]:
    """Luminance of an RGB or palette image, uint8 (rows, columns)."""
    highest = 2**layout.bits_stored - 1
    if layout.photometric == "PALETTE COLOR":
        try:
            pixels = apply_color_lut(pixels, dataset)  # (rows, columns, 3)
        except UNREADABLE as error:
            raise RadiographError(f"the colour palette cannot be used: {one_line(error)}") from error
        highest = np.iinfo(pixels.dtype).max
    luminance = np.zeros(pixels.shape[:2], dtype=np.float32)  # (rows, columns)
    for channel, weight in enumerate(_LUMINANCE):
        luminance += np.float32(weight / highest * 255.0) * pixels[..., channel]
    shown = np.rint(np.clip(luminance, 0.0, 255.0)).astype(np.uint8)
    if np.ptp(shown) == 0:
        raise RadiographError("all pixels of the image have the same value: there is nothing to read")
    return shown
