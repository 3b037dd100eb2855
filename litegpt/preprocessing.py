"""From a display image of any size to the tensors that feed the encoders: the paper's, one for both.

The whole image is squashed to a square (``litegpt.squares``), then each channel normalised.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from litegpt.errors import ModelError
from litegpt.radiograph import Radiograph
from litegpt.squares import SquashedImage, squashed

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How images become tensors; belongs to the weights and is saved with them.

    Attributes:
        size: Side of the square in pixels.
        mean: Per channel, of values in 0..1.
        std: Per channel.
    """

    size: int = 224
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD

    def __post_init__(self) -> None:
        """Raises:
        ModelError: If the square has no pixels, or a std is not above 0.
        """
        if self.size < 1 or not all(0 < value < math.inf for value in self.std):
            raise ModelError(f"images of {self.size} pixels and std {self.std} cannot be prepared")

    def __call__(self, radiographs: Sequence[Radiograph]) -> torch.Tensor:
        """Squashes and normalises.

        Returns:
            (batch, 3, size, size) float32; the three channels differ only by mean and std.
        """
        squares = np.stack(
            [self.squash(radiograph.pixels) for radiograph in radiographs]
        )  # (batch, size, size)
        return self.normalise(torch.from_numpy(squares))

    def squash(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """One image, (rows, columns) uint8, as a square of (size, size) uint8."""
        return squashed(pixels, self.size)

    def normalise(self, squares: torch.Tensor) -> torch.Tensor:
        """(batch, size, size) uint8 to (batch, 3, size, size) float32."""
        scaled = squares.float()[:, None] / 255  # (batch, 1, size, size), 0..1
        mean = torch.tensor(self.mean, device=squares.device).view(1, 3, 1, 1)
        std = torch.tensor(self.std, device=squares.device).view(1, 3, 1, 1)
        return (scaled - mean) / std

    def to_json(self) -> dict[str, Any]:
        """For ``config.json``."""
        return {
            "size": self.size,
            "resize": "squash",
            "interpolation": "bicubic-antialias",
            "mean": list(self.mean),
            "std": list(self.std),
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Preprocessing:
        """From ``config.json``.

        Raises:
            ModelError: If the model was made for images prepared in another way.
        """
        for key, ours in (("resize", "squash"), ("interpolation", "bicubic-antialias")):
            if values.get(key, ours) != ours:
                raise ModelError(f"preprocessing.{key} {values[key]!r} is not supported, only {ours!r}")
        return cls(int(values["size"]), channels(values["mean"], "mean"), channels(values["std"], "std"))


def channels(values: Any, what: str) -> tuple[float, float, float]:
    """Red, green and blue from JSON.

    Raises:
        ModelError: If they are no three numbers.
    """
    try:
        red, green, blue = (float(value) for value in values)
    except (TypeError, ValueError):
        raise ModelError(f"{what} {values!r} is not three numbers") from None
    return red, green, blue


def square_sizes(preprocessings: Sequence[Preprocessing]) -> tuple[int, ...]:
    """Of each different preprocessing, the side of its square in pixels: what a ``SquashedImage`` has."""
    return tuple(one.size for one in dict.fromkeys(preprocessings))


def squash(preprocessings: Sequence[Preprocessing], radiograph: Radiograph) -> SquashedImage:
    """Does to one image what costs time and needs no batch; safe in any thread."""
    rows, columns = radiograph.pixels.shape
    squares = [squashed(radiograph.pixels, size) for size in square_sizes(preprocessings)]
    return SquashedImage(rows, columns, tuple(squares))


def prepare(
    preprocessings: Sequence[Preprocessing], images: Sequence[SquashedImage], device: str = "cpu"
) -> tuple[torch.Tensor, ...]:
    """Images for the encoders.

    Args:
        preprocessings: What each encoder wants.
        images: Squashed for these.
        device: Where to.

    Returns:
        One (batch, 3, size, size) float32 for all where all want the same, else one for each.
    """
    different = list(dict.fromkeys(preprocessings))
    made = []
    for place, preprocessing in enumerate(different):
        squares = torch.from_numpy(
            np.stack([image.squares[place] for image in images])
        )  # (batch, size, size)
        made.append(preprocessing.normalise(squares.to(device)))
    return (made[0],) if len(made) == 1 else tuple(made[different.index(one)] for one in preprocessings)
