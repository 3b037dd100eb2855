"""Where in an image a report's statement applies: the graphics of SCOORD items (PS3.3 C.18.6)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from litegpt.boxes import Box

Point = tuple[float, float]

_STEPS: Final = 64
"""Sides of the polygon that stands for a circle or an ellipse."""


@dataclass(frozen=True, slots=True)
class Region:
    """One SCOORD.

    Attributes:
        kind: Graphic Type: ``POINT``, ``MULTIPOINT``, ``POLYLINE``, ``CIRCLE`` or ``ELLIPSE``.
        points: Graphic Data, (column, row) in pixels, from the upper left corner of the upper left pixel.
        image: SOP Instance UID of the image it was selected from; empty where the report does not say.
    """

    kind: str
    points: tuple[Point, ...]
    image: str

    @property
    def line(self) -> tuple[Point, ...]:
        """The points of a line that shows it, closed where the region is."""
        if self.kind == "CIRCLE" and len(self.points) == 2:
            (x, y), (edge_x, edge_y) = self.points
            radius = math.hypot(edge_x - x, edge_y - y)
            return _oval((x, y), (radius, 0.0), (0.0, radius))
        if self.kind == "ELLIPSE" and len(self.points) == 4:
            (x0, y0), (x1, y1), (x2, y2), (x3, y3) = self.points  # the ends of the two axes
            center = ((x0 + x1) / 2, (y0 + y1) / 2)
            return _oval(center, ((x1 - x0) / 2, (y1 - y0) / 2), ((x3 - x2) / 2, (y3 - y2) / 2))
        return self.points

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """The smallest rectangle round it: left, top, right, bottom."""
        xs, ys = [x for x, _ in self.line], [y for _, y in self.line]
        return min(xs), min(ys), max(xs), max(ys)

    def iou(self, other: Region) -> float:
        """Of both rectangles, 0..1; 0 where they are of different images."""
        if self.image != other.image:
            return 0.0
        try:
            return Box(*self.bounds).iou(Box(*other.bounds))
        except ValueError:  # a point or a straight line has no area
            return 0.0


def _oval(center: Point, one: Point, other: Point) -> tuple[Point, ...]:
    """An ellipse by its centre and the vectors of its half axes."""
    turns = [2 * math.pi * step / _STEPS for step in range(_STEPS + 1)]
    return tuple(
        (
            center[0] + one[0] * math.cos(turn) + other[0] * math.sin(turn),
            center[1] + one[1] * math.cos(turn) + other[1] * math.sin(turn),
        )
        for turn in turns
    )
