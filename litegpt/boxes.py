"""Boxes in pixels of an image's own matrix, and LiteGPT's 0 to 100 grid.

Coordinates are edges, not pixel centres: x runs over columns from 0 (left edge of the first column) to
``columns`` (right edge of the last), y over rows likewise. That is also the convention of SCOORD graphic data
(PS3.3 C.18.6.1.2), so a box goes into a report as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

GRID: Final = 100
"""Steps of the model's coordinate grid along each side of the image (LiteGPT and MiniGPT-v2: 0..100)."""

GridBox = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Box:
    """An axis-parallel box: left, top, right, bottom, in pixels (columns, rows) of the original matrix.

    Raises:
        ValueError: If the corners are reversed, or the box has no area.
    """

    x_min: float
    y_min: float
    x_max: float
    y_max: float

    def __post_init__(self) -> None:
        if not (self.x_min < self.x_max and self.y_min < self.y_max):
            raise ValueError(f"a box needs x_min < x_max and y_min < y_max, not {self}")

    @property
    def area(self) -> float:
        """Area in square pixels."""
        return (self.x_max - self.x_min) * (self.y_max - self.y_min)

    def iou(self, other: Box) -> float:
        """Intersection over union with another box of the same image, 0..1."""
        width = min(self.x_max, other.x_max) - max(self.x_min, other.x_min)
        height = min(self.y_max, other.y_max) - max(self.y_min, other.y_min)
        if width <= 0 or height <= 0:
            return 0.0
        intersection = width * height
        return intersection / (self.area + other.area - intersection)

    def clipped(self, columns: int, rows: int) -> Box:
        """The part of the box inside an image of ``columns`` × ``rows`` pixels.

        Raises:
            ValueError: If the box lies outside the image.
        """
        return Box(
            max(0.0, self.x_min),
            max(0.0, self.y_min),
            min(float(columns), self.x_max),
            min(float(rows), self.y_max),
        )

    def to_grid(self, columns: int, rows: int) -> GridBox:
        """The box on the model's grid, widened to one step where rounding would collapse it.

        Args:
            columns: Width of the image in pixels.
            rows: Height of the image in pixels.

        Returns:
            ``(x_min, y_min, x_max, y_max)``, each 0..100, ``round(coordinate / size * 100)`` as LiteGPT's
            published labels are written.
        """
        x_min, x_max = _grid_interval(self.x_min, self.x_max, columns)
        y_min, y_max = _grid_interval(self.y_min, self.y_max, rows)
        return x_min, y_min, x_max, y_max

    @classmethod
    def from_grid(cls, grid: GridBox, columns: int, rows: int) -> Box:
        """A box in pixels from the model's grid; inverse of ``to_grid`` up to the grid's own step.

        Raises:
            ValueError: If the corners are reversed or coincide.
        """
        x_min, y_min, x_max, y_max = grid
        return cls(x_min * columns / GRID, y_min * rows / GRID, x_max * columns / GRID, y_max * rows / GRID)


def boxes_alike(grid: GridBox) -> float:
    """About how many boxes of the grid have an IoU of at least 0.5 with this one.

    The volume of such boxes, as if the grid were endless and infinitely fine: 0.2208 · (width · height)², by
    numerical integration. At least one, the box itself.
    """
    x_min, y_min, x_max, y_max = grid
    return max(1.0, 0.2208 * ((x_max - x_min) * (y_max - y_min)) ** 2)


def about_right(grid: GridBox, probability: float) -> float:
    """From the probability of exactly this box to a score for that it is about right (IoU of at least 0.5).

    The probability times the number of boxes that alike, taken as odds: all of them can hardly be as probable
    as the best one.
    """
    odds = probability * boxes_alike(grid)
    return odds / (1 + odds)


def _grid_interval(low: float, high: float, size: int) -> tuple[int, int]:
    start = min(GRID, max(0, round(low / size * GRID)))
    end = min(GRID, max(0, round(high / size * GRID)))
    if end > start:
        return start, end
    return (start, start + 1) if start < GRID else (GRID - 1, GRID)
