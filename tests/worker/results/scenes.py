"""Radiographs with one bright rectangle in a place that is known, for tests that follow it to the results.

Nothing about a scene is symmetric: the background rises along both axes and the rectangle is off the centre,
so no turn, no flip and no swap of rows and columns maps it onto itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from hypothesis import assume
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from tests.images import make_radiograph

Sides = tuple[float, float, float, float]
"""Left, top, right, bottom: edges of pixels, from the left and upper edge of the image."""

BRIGHT: Final = 220
"""Of the rectangle as displayed, 0..255."""

DARK: Final = (45, 65)
"""Of the background as displayed, where it is darkest and brightest; a border is black."""

STRIP: Final = 30
"""Rows at the lower edge of a Secondary Capture that may be written on."""

_LEAST: Final = 14
_HIGHEST: Final = 4095

KINDS: Final = (
    ("L\\F", "MONOCHROME2"),
    ("L\\F", "MONOCHROME1"),
    ("R\\F", "MONOCHROME2"),
    ("L\\H", "MONOCHROME1"),
    ("R\\H", "MONOCHROME2"),
    ("F\\L", "MONOCHROME1"),
    ("F\\R", "MONOCHROME2"),
    ("H\\L", "MONOCHROME1"),
    ("H\\R", "MONOCHROME2"),
    ("", "MONOCHROME1"),
)
"""Patient Orientation (upright, mirrored, upside down, turned by half; the same lying; not said) and
Photometric Interpretation. They are listed, not drawn: a few draws may leave one out.
"""


@dataclass(frozen=True)
class Scene:
    """One image and what is known of it.

    Attributes:
        rows, columns: Size of the stored matrix.
        border: Width of a black border, as collimation leaves it, which a crop would take away.
        photometric: Photometric Interpretation.
        orientation: Patient Orientation.
        sides: Of the rectangle, in the stored matrix.
    """

    rows: int
    columns: int
    border: int
    photometric: str
    orientation: str
    sides: tuple[int, int, int, int]

    @property
    def lengths(self) -> tuple[int, int, int, int]:
        """Of the axis on which each of the sides is a position."""
        return self.columns, self.rows, self.columns, self.rows

    def displayed(self) -> npt.NDArray[np.uint8]:
        """(rows, columns): 0..255, white the highest."""
        down, across = np.mgrid[0 : self.rows, 0 : self.columns]
        rise = 0.7 * down / self.rows + 0.3 * across / self.columns  # (rows, columns)
        shown = np.zeros((self.rows, self.columns))
        within = (
            slice(self.border, self.rows - self.border),
            slice(self.border, self.columns - self.border),
        )
        shown[within] = (DARK[0] + (DARK[1] - DARK[0]) * rise)[within]
        left, top, right, bottom = self.sides
        shown[top:bottom, left:right] = BRIGHT
        return shown.astype(np.uint8)

    def image(self) -> Dataset:
        """The DICOM image; each call makes another study."""
        stored = np.rint(self.displayed() * (_HIGHEST / 255)).astype(np.uint16)  # (rows, columns)
        if self.photometric == "MONOCHROME1":
            stored = _HIGHEST - stored
        return make_radiograph(
            stored, photometric=self.photometric, PatientOrientation=self.orientation.split("\\")
        )


@st.composite
def scenes(draw: st.DrawFn, kind: tuple[str, str]) -> Scene:
    """Upright and lying images of one of ``KINDS``; rectangles anywhere, also along the image's edges.

    A gap to the image's edge or the border is none, or wide enough to be seen once the image is squashed.
    """
    orientation, photometric = kind
    rows, columns = draw(st.integers(110, 420)), draw(st.integers(60, 420))
    border = draw(st.sampled_from([min(rows, columns) // 8, 0]))  # the simplest example has one
    left, right = draw(_interval(columns, border, columns))
    top, bottom = draw(_interval(rows, border, rows - 2 * STRIP))
    assume((left, top, right, bottom) != (0, 0, columns, rows))  # one value everywhere is no radiograph
    return Scene(rows, columns, border, photometric, orientation, (left, top, right, bottom))


@st.composite
def _interval(draw: st.DrawFn, length: int, border: int, lows_below: int) -> tuple[int, int]:
    margin = border + max(4, length // 40)
    at_edge = [] if border else [st.just(0)]
    low = draw(st.one_of(*at_edge, st.integers(margin, min(lows_below, length - margin - _LEAST))))
    at_edge = [] if border else [st.just(length)]
    high = draw(st.one_of(*at_edge, st.integers(low + _LEAST, length - margin)))
    return low, high
