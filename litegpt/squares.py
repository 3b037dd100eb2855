"""Images squashed to the squares that the model sees. Torch-free.

Their aspect ratio is lost, as in the paper; bicubic and antialiased: Pillow's, which is what torchvision's
``Resize`` does to the published code's images.

``read_squares`` goes from file to squares, and decodes no more of a compressed image than they need. The
squares of one that is decoded at a lower resolution differ a little from those of the whole image:
docs/performance.md says by how much, and a test holds it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydicom.dataset import Dataset

from litegpt.errors import RadiographError
from litegpt.grayscale import Grayscale
from litegpt.levels import Level, lower_level
from litegpt.pixel_layout import PixelLayout, pixel_data
from litegpt.radiograph import MAXIMUM_PIXELS, displayed, open_image

_TIMES: Final = 3
"""What is decoded has sides of at least so many times those of the largest square. At twice, edges of real
radiographs (a collimator's, a marker's) differed by up to 23 grey levels, and a model named others."""

_Extent = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, eq=False)
class SquashedImage:
    """One image as the encoders get it, before it is normalised.

    Attributes:
        rows, columns: Size of the original matrix in pixels.
        squares: (size, size) uint8 for each size that was wanted.
    """

    rows: int
    columns: int
    squares: tuple[npt.NDArray[np.uint8], ...]


def squashed(
    pixels: npt.NDArray[np.uint8], size: int, extent: _Extent | None = None
) -> npt.NDArray[np.uint8]:
    """One image, (rows, columns) uint8, as a square of (size, size) uint8.

    Args:
        pixels: The image.
        size: Of the square in pixels.
        extent: Left, top, right and bottom of what the square shows; by default everything.
    """
    if pixels.shape == (size, size) and extent is None:
        return pixels
    square = Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC, box=extent)
    return np.asarray(square)


def read_squares(
    source: Path | Dataset, sizes: Sequence[int], *, maximum_pixels: int = MAXIMUM_PIXELS
) -> SquashedImage:
    """Reads one DICOM image as the squares of it that a model sees.

    Args:
        source: A DICOM file, or a dataset with its file meta information and Pixel Data.
        sizes: Sides of the squares in pixels, at least one.
        maximum_pixels: Largest Rows × Columns; checked before anything is decoded.

    Raises:
        RadiographError: As ``read_radiograph``.
        OSError: If the file itself cannot be read, which may pass.
    """
    dataset, layout = open_image(source, maximum_pixels)
    small = lower_level(pixel_data(dataset), layout, _TIMES * max(sizes))
    shown = None if small is None else _shown(dataset, layout, small)
    extent = None if small is None or shown is None else small.extent
    if shown is None:
        shown = displayed(dataset, layout).pixels
    made = {size: squashed(shown, size, extent) for size in set(sizes)}
    return SquashedImage(layout.rows, layout.columns, tuple(made[size] for size in sizes))


def _shown(dataset: Dataset, layout: PixelLayout, level: Level) -> npt.NDArray[np.uint8] | None:
    """A level as it is displayed; None where it is all alike, which the whole image need not be."""
    try:
        return Grayscale.of_image(dataset, level.codes, layout.bits_stored, layout.signed).show(level.codes)
    except RadiographError:
        return None
