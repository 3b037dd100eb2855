"""A box as a dataset's file writes it becomes one of ours, or a problem with a name."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from litegpt.boxes import Box
from training.datasets.example import Size
from training.datasets.problems import Kind, Place, Tally

CORNERS: Final = ("x_min", "y_min", "x_max", "y_max")

_EMPTY: Final = frozenset({"", "nan", "none", "null"})
_ENDLESS: Final = Size(sys.maxsize, sys.maxsize)
"""Where the size of the image is not known, only what lies left of it or above it can be cut off."""


def is_empty(cell: str | float | None) -> bool:
    """Whether a cell holds nothing, in one of the ways in which programs write nothing."""
    return cell == "" or cell is None or str(cell).strip().casefold() in _EMPTY


@dataclass(frozen=True, slots=True)
class BoxColumns:
    """Four columns that write boxes.

    Attributes:
        names: Of the columns.
        extent: Whether they are left, top, width and height; else left, top, right and bottom.
    """

    names: tuple[str, str, str, str] = CORNERS
    extent: bool = False

    @classmethod
    def of_field(cls, field: str) -> BoxColumns:
        """Those of a JSON field that holds left, top, right and bottom."""
        return cls((f"{field}.0", f"{field}.1", f"{field}.2", f"{field}.3"))

    def read(self, cells: Sequence[str | float], size: Size | None, place: Place, tally: Tally) -> Box | None:
        """The box in four cells, inside the image.

        Args:
            cells: Pixels, at least one of them not empty.
            size: Of the image, where it is known.
            place: For what there is to report.
            tally: Takes it.

        Returns:
            None, reported, where there is no box left.
        """
        numbers = self._numbers(cells, place, tally)
        if numbers is None:
            return None
        left, top, right, bottom = numbers
        if self.extent:
            right, bottom = left + right, top + bottom
        columns, rows = size or _ENDLESS
        if 0 <= left < right <= columns and 0 <= top < bottom <= rows:
            return Box(left, top, right, bottom)
        return self._repaired((left, top, right, bottom), size, place, tally)

    def _numbers(self, cells: Sequence[str | float], place: Place, tally: Tally) -> list[float] | None:
        try:
            numbers = [float(cell) for cell in cells]
        except ValueError:
            numbers = []
        if len(numbers) == len(self.names) and all(map(math.isfinite, numbers)):
            return numbers
        empty = [name for name, cell in zip(self.names, cells, strict=False) if is_empty(cell)]
        if empty or len(cells) != len(self.names):
            written = ", ".join(str(cell) for cell in cells)
            tally.report(Kind.BOX_INCOMPLETE, place, (empty or self.names)[0], f"({written}) is no box")
            return None
        name, cell = next(
            (name, cell) for name, cell in zip(self.names, cells, strict=True) if not _is_number(cell)
        )
        tally.report(Kind.BOX_NUMBER, place, name, f"{str(cell)!r} is no number")
        return None

    def _repaired(
        self, corners: tuple[float, float, float, float], size: Size | None, place: Place, tally: Tally
    ) -> Box | None:
        """The box in corners that are not simply a box inside the image."""
        left, right = sorted((corners[0], corners[2]))
        top, bottom = sorted((corners[1], corners[3]))
        written = f"({', '.join(f'{side:g}' for side in corners)})"
        if left == right or top == bottom:
            column = self.names[2] if left == right else self.names[3]
            tally.report(Kind.BOX_EMPTY, place, column, f"{written} has no area")
            return None
        box = Box(left, top, right, bottom)
        if (left, top, right, bottom) != corners:
            column = self.names[2] if (left, right) != (corners[0], corners[2]) else self.names[3]
            tally.report(Kind.BOX_REVERSED, place, column, f"{written} has reversed corners")
        return inside(box, size or _ENDLESS, self.names[0], place, tally)


def inside(box: Box, size: Size, column: str, place: Place, tally: Tally) -> Box | None:
    """The part of a box inside the image; None, reported, where there is none."""
    try:
        cut = box.clipped(size.columns, size.rows)
    except ValueError:
        cut = None
    if cut != box:
        image = "the image" if size == _ENDLESS else f"the image's {size.columns} × {size.rows} pixels"
        sides = f"({box.x_min:g}, {box.y_min:g}, {box.x_max:g}, {box.y_max:g})"
        kind, how = (Kind.BOX_OUTSIDE, "reaches") if cut else (Kind.BOX_OFF_IMAGE, "lies")
        tally.report(kind, place, column, f"{sides} {how} outside {image}")
    return cut


def _is_number(cell: str | float) -> bool:
    try:
        return math.isfinite(float(cell))
    except ValueError:
        return False
