"""Words at boxes over a small picture, placed so that they cover each other and other boxes least.

All places are in percent of the picture's sides, from its left and top. Words keep their size when the
picture grows, so a place is told by the corner that stays: CSS ``left`` or ``right``, ``top`` or ``bottom``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

_LINE: Final = 15.0
"""Height of a line of words in CSS pixels."""

_LETTER: Final = 6.7
_MARGIN: Final = 9.0
"""Width of words: so much a letter, and so much for all."""

_PICTURE: Final = 350.0
"""Width of a picture on the sheet, in CSS pixels."""


@dataclass(frozen=True, slots=True)
class Area:
    """A rectangle in percent of the picture."""

    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: Area) -> float:
        """Common area in percent of percent."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(0.0, width) * max(0.0, height)

    @property
    def outside(self) -> float:
        """How far it reaches out of the picture."""
        return sum(max(0.0, over) for over in (-self.left, -self.top, self.right - 100, self.bottom - 100))


@dataclass(frozen=True, slots=True)
class Place:
    """Where words may stand: the area that they take on the sheet, and the CSS that puts them there."""

    area: Area
    css: str


def places(boxes: Sequence[Area], words: Sequence[str], ratio: float) -> list[str]:
    """The CSS of each box's words; empty words take no room.

    Args:
        boxes: All boxes of a picture.
        words: What is written at each.
        ratio: The picture's width over its height.
    """
    height = 100 * _LINE * ratio / _PICTURE
    chosen: list[Place] = []
    for box, text in zip(boxes, words, strict=True):
        width = 100 * (_LETTER * len(text) + _MARGIN) / _PICTURE if text else 0.0
        others = [other for other in boxes if other is not box]
        chosen.append(min(_around(box, width, height), key=lambda place: _cost(place, chosen, others)))
    return [place.css for place in chosen]


def _cost(place: Place, taken: Sequence[Place], boxes: Sequence[Area]) -> float:
    words = sum(place.area.overlap(one.area) for one in taken)
    return 1000 * place.area.outside + 20 * words + sum(place.area.overlap(box) for box in boxes)


def _around(box: Area, width: float, height: float) -> Iterator[Place]:
    """Above and below, at the left and at the right; then within, for boxes as large as the picture."""
    for top, across in (
        (box.top - height, f"bottom:{100 - box.top:.2f}%"),
        (box.bottom, f"top:{box.bottom:.2f}%"),
        (box.top, f"top:{box.top:.2f}%"),
        (box.bottom - height, f"bottom:{100 - box.bottom:.2f}%"),
    ):
        yield Place(Area(box.left, top, box.left + width, top + height), f"left:{box.left:.2f}%;{across}")
        right = f"right:{100 - box.right:.2f}%;{across}"
        yield Place(Area(box.right - width, top, box.right, top + height), right)
