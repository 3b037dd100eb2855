"""A phantom while findings are drawn into it.

A drawer is one function a finding: it changes the picture's brightness (``Scene.brightness``) and returns the
masks of what it drew, from which the boxes follow, so a box is never a matter of opinion. How findings look
follows their radiographic descriptions only as far as needed to tell them apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from training.phantom.anatomy import Plane, Regions

Mask = npt.NDArray[np.bool_]
Extent = tuple[float, float, float, float]


@dataclass(slots=True)
class Scene:
    """A phantom while it is being drawn.

    Attributes:
        regions: Where the anatomy lies.
        brightness: The picture, (side, side), about 0..1.
        darkness: By how much air is darker than soft tissue.
        hidden: 0..1, where vessels cannot be seen any more.
        rib_shift, rib_gain: Local displacement (in rib spacings) and brightness of the ribs.
        clavicle_shift, clavicle_gain: The same for the clavicles (downwards, in sides); None where whole.
        taken: Extents of what was drawn, in body axes; later findings keep off them.
    """

    rng: np.random.Generator
    regions: Regions
    brightness: Plane
    darkness: float
    hidden: Plane
    rib_shift: Plane
    rib_gain: Plane
    clavicle_shift: Plane | None = None
    clavicle_gain: Plane | None = None
    taken: list[Extent] = field(default_factory=list)

    def is_free(self, extent: Extent, margin: float = 0.012) -> bool:
        """Whether nothing drawn so far touches the extent."""
        return not any(
            extent[0] - margin < other[2]
            and other[0] < extent[2] + margin
            and extent[1] - margin < other[3]
            and other[1] < extent[3] + margin
            for other in self.taken
        )

    def side(self) -> npt.NDArray[np.bool_]:
        """The half of the picture of a lung chosen at random."""
        return self.regions.left if self.rng.random() < 0.5 else ~self.regions.left

    def place(
        self,
        half_width: float,
        half_height: float,
        heights: tuple[float, float],
        fit: float = 1.0,
    ) -> tuple[float, float] | None:
        """A free centre in a lung for something of this size, off the heart; None after many trials.

        Args:
            half_width: Half the width of what is to be placed.
            half_height: Half its height.
            heights: Range of the centre between apex (0) and diaphragm (1).
            fit: Which part of the half width has to lie within the lung.
        """
        a = self.regions.anatomy
        for _ in range(24):
            sign = 1 if self.rng.random() < 0.5 else -1
            height = self.rng.uniform(*heights)
            y = a.apex + height * (a.diaphragm - a.apex)
            nearest = a.mediastinum + sign * a.shift + 0.025 + half_width * fit
            farthest = float(a.outer(height)) - 0.015 - half_width * fit
            chord = 1 - ((y - a.heart_y) / a.heart_height) ** 2
            if (sign > 0 or a.shift) and chord > 0:
                heart = sign * a.heart_x + a.heart_width * chord**0.5
                nearest = max(nearest, heart + 0.01 + half_width * fit)
            if nearest >= farthest:
                continue
            x = sign * self.rng.uniform(nearest, farthest)
            if self.is_free((x - half_width, y - half_height, x + half_width, y + half_height)):
                return x, y
        return None


Drawer = Callable[[Scene], list[Mask]]


def body_extent(regions: Regions, mask: Mask) -> Extent:
    """Smallest rectangle of the body axes that holds a mask."""
    x, y = regions.x[mask], regions.y[mask]
    return float(x.min()), float(y.min()), float(x.max()), float(y.max())
