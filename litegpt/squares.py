"""A display image of any size, squashed to a square. Torch-free.

Its aspect ratio is lost, as in the paper; bicubic and antialiased: Pillow's, which is what torchvision's
``Resize`` does to the published code's images.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image


def squashed(pixels: npt.NDArray[np.uint8], size: int) -> npt.NDArray[np.uint8]:
    """One image, (rows, columns) uint8, as a square of (size, size) uint8."""
    if pixels.shape == (size, size):
        return pixels
    square = Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(square)
