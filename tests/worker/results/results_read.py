"""Where the three results of an image say that its one box is, as dcmtk reads them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tests.peers.dcmtk import run_program
from tests.worker.results.reports import Item, Report
from tests.worker.results.scenes import STRIP, Sides
from tests.worker.results.test_presentation_state import graphics

SR, GSPS, SC = "Comprehensive 3D SR", "Grayscale Softcopy Presentation State", "Secondary Capture Image"


@dataclass(frozen=True)
class Told:
    """What the results tell, in pixels of the image.

    Attributes:
        sr: The region of the Structured Report.
        side: Its laterality, as (code value, scheme).
        gsps: The graphic of the presentation state.
        displayed: Columns and rows of the area that the presentation state displays, which is not turned.
        sc: Outer edges of the line in the Secondary Capture; its bottom may be written over.
        picture: (rows, columns, 3), the Secondary Capture.
        orientation: Its Patient Orientation.
    """

    sr: Sides
    side: tuple[str, str] | None
    gsps: Sides
    displayed: tuple[int, int]
    sc: tuple[int, int, int, int]
    picture: npt.NDArray[np.uint8]
    orientation: str

    @classmethod
    def by(cls, files: Mapping[str, Path]) -> Told:
        """Reads the files of the three results, by the names of their SOP classes."""
        (group,) = Report(files[SR]).boxes
        state = Report(files[GSPS]).root
        picture = shown(files[SC])
        return cls(
            sr=_sides([number for point in group.points for number in point]),
            side=group.laterality,
            gsps=_sides(*graphics(state)),  # in PIXEL units 0\0 is a corner, as in SCOORD (PS3.3 C.10.5.1.1)
            displayed=_displayed(state),
            sc=_line(picture),
            picture=picture,
            orientation=_orientation(files[SC]),
        )


def shown(file: Path, *options: str) -> npt.NDArray[np.uint8]:
    """An image as dcm2pnm shows it, (rows, columns, 3) where it is in colour, else (rows, columns)."""
    picture = file.with_suffix(".pnm")
    ended = run_program("dcm2pnm", *options, "+op", file, picture, package="dcmtk")
    assert ended.succeeded, ended.output
    kind, size, highest, pixels = picture.read_bytes().split(b"\n", 3)
    assert highest == b"255"
    columns, rows = (int(number) for number in size.split())
    shape = (rows, columns, 3) if kind == b"P6" else (rows, columns)
    return np.frombuffer(pixels, np.uint8).reshape(shape)


def extent(mask: npt.NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of what is true, as edges of pixels."""
    down, across = np.nonzero(mask)
    return int(across.min()), int(down.min()), int(across.max()) + 1, int(down.max()) + 1


def bright_of(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """(rows, columns): where the picture under what is drawn is bright, above the strip at its lower edge."""
    highest, lowest = picture.max(axis=2), picture.min(axis=2)
    bright = (lowest > 150) & (highest - lowest <= 2)
    return np.asarray(bright[:-STRIP])


def _sides(data: list[float]) -> Sides:
    """Of a closed polyline's x, y, x, y, …: a rectangle along the axes, from its upper left corner."""
    left, top, right, bottom = data[0], data[1], data[4], data[5]
    assert data == [left, top, right, top, right, bottom, left, bottom, left, top]
    return left, top, right, bottom


def _displayed(state: Item) -> tuple[int, int]:
    """The area is told by its pixels, which count from 1\\1 (PS3.3 C.10.4)."""
    assert "00700041" not in state and "00700042" not in state  # neither flipped nor rotated
    (area,) = state["0070005A"]["Value"]
    assert area["00700052"]["Value"] == [1, 1]
    columns, rows = area["00700053"]["Value"]
    return columns, rows


def _line(picture: npt.NDArray[np.uint8]) -> tuple[int, int, int, int]:
    """Outer edges of the line: of full colour where all else is gray or let something through.

    A row or column belongs to it where most of its length does.
    """
    line = (picture.max(axis=2) == 255) & (picture.min(axis=2) < 250)  # (rows, columns)
    rows, columns = line.sum(axis=1), line.sum(axis=0)
    down, across = np.flatnonzero(rows > rows.max() / 2), np.flatnonzero(columns > columns.max() / 2)
    return int(across[0]), int(down[0]), int(across[-1]) + 1, int(down[-1]) + 1


def _orientation(file: Path) -> str:
    ended = run_program("dcmdump", "+P", "0020,0020", file, package="dcmtk")
    assert ended.succeeded, ended.output
    match = re.search(r"CS \[(.*?)\]", ended.output)
    return match[1] if match else ""
