"""What the Image Pixel module says of an image (PS3.3 C.7.6.3), checked before anything is decoded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import UID

from litegpt.attributes import UNDECODABLE, integer, required_integer, text
from litegpt.errors import RadiographError, one_line


@dataclass(frozen=True, slots=True)
class PixelLayout:
    """What the Image Pixel module says, and how its pixels are encoded.

    Attributes:
        rows, columns: Size of the stored matrix in pixels.
        samples: 1, or 3 of colour.
        bits_allocated, bits_stored, high_bit: Of each sample.
        signed: Whether stored values are in two's complement.
        photometric: Photometric Interpretation.
        transfer_syntax: Of Pixel Data.
    """

    rows: int
    columns: int
    samples: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    photometric: str
    transfer_syntax: UID

    @classmethod
    def of(cls, dataset: Dataset, maximum_pixels: int) -> PixelLayout:
        """Args:
        dataset: With its file meta information.
        maximum_pixels: Largest Rows × Columns.

        Raises:
            RadiographError: If it is no image, or not one that is read here.
        """
        rows, columns = required_integer(dataset, "Rows"), required_integer(dataset, "Columns")
        if rows < 1 or columns < 1:
            raise RadiographError(f"the image has {rows} rows and {columns} columns")
        if rows * columns > maximum_pixels:
            raise RadiographError(f"{rows} × {columns} pixels are more than the {maximum_pixels} allowed")
        if (frames := integer(dataset, "NumberOfFrames") or 1) != 1:
            raise RadiographError(f"the image has {frames} frames; a radiograph has one")
        if not pixel_data(dataset):
            raise RadiographError("the object has no pixel data")
        bits_allocated = required_integer(dataset, "BitsAllocated")
        bits_stored = required_integer(dataset, "BitsStored")
        if bits_allocated not in (8, 16) or not 1 <= bits_stored <= bits_allocated:
            raise RadiographError(f"{bits_stored} bits stored in {bits_allocated} are no radiograph's pixels")
        samples = required_integer(dataset, "SamplesPerPixel")
        photometric = text(dataset, "PhotometricInterpretation")
        if not photometric:
            raise RadiographError("the image does not say its PhotometricInterpretation")
        if samples != (1 if photometric.startswith(("MONOCHROME", "PALETTE")) else 3):
            raise RadiographError(f"{samples} samples a pixel contradict {photometric}")
        return cls(
            rows,
            columns,
            samples,
            bits_allocated,
            bits_stored,
            integer(dataset, "HighBit") or bits_stored - 1,
            required_integer(dataset, "PixelRepresentation") == 1,
            photometric,
            _transfer_syntax(dataset),
        )

    @property
    def is_colour(self) -> bool:
        """Whether it is not MONOCHROME."""
        return not self.photometric.startswith("MONOCHROME")

    def codes(self, pixels: NDArray[Any]) -> NDArray[np.unsignedinteger[Any]]:
        """The Bits Stored bits of each cell, as unsigned codes: unused bits may hold anything (PS3.5 8.1.1).

        Old files have overlays above High Bit, or stored bits that do not begin at bit 0.
        """
        native = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
        codes: NDArray[Any] = native.view(f"u{native.dtype.itemsize}")
        shift = self.high_bit + 1 - self.bits_stored
        if 0 < shift <= self.bits_allocated - self.bits_stored and not self.transfer_syntax.is_encapsulated:
            codes = codes >> shift
        codes = codes & codes.dtype.type(2**self.bits_stored - 1)
        return codes


def pixel_data(dataset: Dataset) -> bytes:
    """Value of Pixel Data; empty where there is none.

    Raises:
        RadiographError: If it cannot be read.
    """
    try:
        value = dataset.get("PixelData")
    except UNDECODABLE as error:
        raise RadiographError(f"the pixel data cannot be read: {one_line(error)}") from error
    return value if isinstance(value, bytes) else b""


def _transfer_syntax(dataset: Dataset) -> UID:
    file_meta = getattr(dataset, "file_meta", None)
    transfer_syntax = file_meta.get("TransferSyntaxUID") if file_meta is not None else None
    if not transfer_syntax:
        raise RadiographError("the object does not say its transfer syntax")
    return UID(one_line(transfer_syntax))
