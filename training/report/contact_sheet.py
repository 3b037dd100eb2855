"""Two dozen images of a run, chosen by rule, so that a person sees where the model is right and wrong."""

from __future__ import annotations

import base64
import io
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from litegpt.boxes import Box
from litegpt.errors import RadiographError
from litegpt.findings import Finding
from training.datasets.pictures import read_image
from training.evaluation.examination import as_picture
from training.evaluation.froc import HIT
from training.evaluation.journal import Examined
from training.evaluation.statements import Statement, stated, with_comparable_boxes
from training.report.pairing import pairs
from training.report.tags import Area, places

EACH: Final = 6
"""Images of a group."""


@dataclass(frozen=True, slots=True)
class Judged:
    """How well one image was read.

    Attributes:
        examined: The image.
        right: True boxes found (IoU above ``HIT``, label alike) and labels without a place that are right.
        true: How many there are of them.
        said: How many were said.
        found: The places of the true boxes that were found, in the truth's order.
        overlap: Mean IoU of the true boxes with what was found there; 1 where none is true.
    """

    examined: Examined
    right: int
    true: int
    said: int
    found: frozenset[int]
    overlap: float

    @property
    def missed(self) -> int:
        """How many true boxes were not found."""
        return len(self.examined.case.truth.boxes) - len(self.found)

    @property
    def quality(self) -> float:
        """F1 of this image, 1 where nothing is true and nothing was said."""
        return 2 * self.right / (self.true + self.said) if self.true + self.said else 1.0


@dataclass(frozen=True, slots=True)
class Group:
    """Images shown together."""

    title: str
    meaning: str
    images: tuple[Judged, ...]


Order = Callable[[Judged], tuple[float, ...]]


def contact_sheet(examined: Sequence[Examined], each: int = EACH) -> list[Group]:
    """Groups of images, none twice; those that could not be read are not among them.

    Args:
        examined: The readings of a run.
        each: Images of a group; smaller runs have fewer.
    """
    left = [judge(one) for one in examined if one.reading.failure is None]
    if not left:
        return []
    middle = float(np.median([one.quality for one in left]))
    usual = float(np.median([one.true for one in left]))

    def take(order: Order, suits: Callable[[Judged], bool]) -> tuple[Judged, ...]:
        taken = sorted(filter(suits, left), key=lambda one: (*order(one), one.examined.image_id))[:each]
        left[:] = [one for one in left if one not in taken]
        return tuple(taken)

    wrong = take(lambda one: (one.quality, one.overlap), lambda one: one.quality < 1)
    missed = take(lambda one: (-one.missed, one.quality), lambda one: one.missed > 0)
    typical = take(lambda one: (abs(one.quality - middle), abs(one.true - usual)), lambda one: True)
    best = take(lambda one: (-one.quality, -one.true, -one.overlap), lambda one: True)
    groups = [
        Group("Worst", "the lowest F1 of all images", wrong),
        Group("Missed findings", "of the others, the most true boxes that were not found", missed),
        Group("Typical", "of the others, F1 and number of findings nearest the median", typical),
        Group("Best", "of the others, the highest F1, those with the most findings first", best),
    ]
    return [group for group in groups if group.images]


def judge(one: Examined) -> Judged:
    """Compares a reading with the truth of its image."""
    truth, said = one.case.truth, stated(one.reading)
    boxes = stated(with_comparable_boxes(one.reading, one.case)).boxes
    found = pairs(truth.boxes, boxes, HIT, alike=operator.eq)
    true_labels = (truth.diagnoses | (truth.present - truth.placed)) & one.case.judged
    said_labels = (said.diagnoses | (said.labels & true_labels)) & one.case.judged
    return Judged(
        examined=one,
        right=len(found) + len(true_labels & said_labels),
        true=len(truth.boxes) + len(true_labels),
        said=len(boxes) + len(said_labels),
        found=frozenset(found),
        overlap=sum(overlap for _, overlap in found.values()) / len(truth.boxes) if truth.boxes else 1.0,
    )


@dataclass(frozen=True, slots=True)
class Mark:
    """A box over a picture, with what is written at it.

    Attributes:
        area: In percent of the picture's sides.
        words: Of a box that was said: label and score. Of a true one: its label, but only where it was not
            found; else it stands at the said one already.
        place: CSS of the words.
        is_true: Whether it is a true box.
    """

    area: Area
    words: str
    place: str
    is_true: bool


@dataclass(frozen=True, slots=True)
class Card:
    """One image of the sheet, ready to be shown.

    Attributes:
        image_id: Its name.
        picture: As a ``data:`` address; None where it cannot be had.
        width: In pixels of the picture.
        height: Likewise.
        marks: True boxes first.
        true: What is true of it, in words.
        said: What was said, in words.
        quality: Its F1.
    """

    image_id: str
    picture: str | None
    width: int
    height: int
    marks: tuple[Mark, ...]
    true: tuple[str, ...]
    said: tuple[str, ...]
    quality: float


def card(judged: Judged, folder: Path) -> Card:
    """An image with its boxes.

    Args:
        judged: Which.
        folder: Of the evaluation, where its small picture may be.
    """
    one = judged.examined
    picture = _picture(one, folder)
    reported = [finding for finding in one.reading.findings if finding.reported]
    width, height = picture.size if picture else (one.case.columns, one.case.rows)
    return Card(
        image_id=one.image_id,
        picture=_address(picture) if picture else None,
        width=width,
        height=height,
        marks=_marks(judged, reported),
        true=_true_labels(one.case.truth),
        said=tuple(map(_caption, reported)),
        quality=judged.quality,
    )


def _picture(one: Examined, folder: Path) -> Image.Image | None:
    """The small picture that was kept, else the image itself made small, if either is there."""
    try:
        if one.picture is not None and (folder / one.picture).is_file():
            with Image.open(folder / one.picture, formats=("JPEG",)) as kept:
                return kept.convert("L")
        return as_picture(read_image(Path(one.file))) if one.file else None
    except (OSError, RadiographError):
        return None


def _address(picture: Image.Image) -> str:
    written = io.BytesIO()
    picture.save(written, format="JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(written.getvalue()).decode("ascii")


def _marks(judged: Judged, reported: Sequence[Finding]) -> tuple[Mark, ...]:
    """True boxes first, so that said ones lie over them; the words of said ones are placed first."""
    case = judged.examined.case
    said = [(_caption(finding), finding.box) for finding in reported if finding.box is not None]
    true = [("" if row in judged.found else label, box) for row, (label, box) in enumerate(case.truth.boxes)]
    areas = [_area(box, case.columns, case.rows) for _, box in (*said, *true)]
    words = [text for text, _ in (*said, *true)]
    css = places(areas, words, case.columns / case.rows)
    marks = [
        Mark(area, text, place, is_true=number >= len(said))
        for number, (area, text, place) in enumerate(zip(areas, words, css, strict=True))
    ]
    return (*marks[len(said) :], *marks[: len(said)])


def _area(box: Box, columns: int, rows: int) -> Area:
    across, down = 100 / columns, 100 / rows
    return Area(box.x_min * across, box.y_min * down, box.x_max * across, box.y_max * down)


def _true_labels(truth: Statement) -> tuple[str, ...]:
    placed = dict.fromkeys(label for label, _ in truth.boxes)
    return (*placed, *sorted(truth.present - truth.placed), *sorted(truth.diagnoses))


def _caption(finding: Finding) -> str:
    return f"{finding.label} {finding.score:.2f}"
