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

EACH: Final = 6
"""Images of a group."""

_ROW: Final = 6.0
"""Height of a line of words over a small picture, in percent of its height."""


@dataclass(frozen=True, slots=True)
class Judged:
    """How well one image was read.

    Attributes:
        examined: The image.
        right: True boxes found (IoU above ``HIT``, label alike) and labels without a place that are right.
        true: How many there are of them.
        said: How many were said.
        missed: True boxes not found.
        overlap: Mean IoU of the true boxes with what was found there; 1 where none is true.
    """

    examined: Examined
    right: int
    true: int
    said: int
    missed: int
    overlap: float

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
    middle = float(np.median([one.quality for one in left])) if left else 0.0

    def take(order: Order, suits: Callable[[Judged], bool]) -> tuple[Judged, ...]:
        taken = sorted(filter(suits, left), key=lambda one: (*order(one), one.examined.image_id))[:each]
        left[:] = [one for one in left if one not in taken]
        return tuple(taken)

    wrong = take(lambda one: (one.quality, one.overlap), lambda one: one.quality < 1)
    missed = take(lambda one: (-one.missed, one.quality), lambda one: one.missed > 0)
    typical = take(lambda one: (abs(one.quality - middle), -one.true), lambda one: True)
    best = take(lambda one: (-one.quality, -one.true, -one.overlap), lambda one: True)
    groups = [
        Group("Worst", "the lowest F1 of all images", wrong),
        Group("Missed findings", "of the others, those with the most true boxes that were not found", missed),
        Group("Typical", "of the others, those with an F1 nearest the median", typical),
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
        missed=len(truth.boxes) - len(found),
        overlap=sum(overlap for _, overlap in found.values()) / len(truth.boxes) if truth.boxes else 1.0,
    )


@dataclass(frozen=True, slots=True)
class Mark:
    """A box over a picture, its sides in percent of the picture's, and what is written at it."""

    left: float
    top: float
    width: float
    height: float
    words: str
    is_true: bool

    @property
    def place(self) -> str:
        """CSS of the words: those of true boxes hang below, others stand above; none leaves the picture."""
        right, bottom = 100 - self.left - self.width, 100 - self.top - self.height
        across = f"left:{self.left:.2f}%" if self.left + self.width / 2 <= 50 else f"right:{right:.2f}%"
        if self.is_true:
            below = f"top:{100 - bottom:.2f}%" if bottom > _ROW else f"bottom:{max(0.0, bottom):.2f}%"
            return f"{across};{below}"
        above = f"bottom:{100 - self.top:.2f}%" if self.top > _ROW else f"top:{max(0.0, self.top):.2f}%"
        return f"{across};{above}"


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
    columns, rows = one.case.columns, one.case.rows
    true = [_mark(box, label, columns, rows, is_true=True) for label, box in one.case.truth.boxes]
    said = [
        _mark(finding.box, _caption(finding), columns, rows, is_true=False)
        for finding in reported
        if finding.box is not None
    ]
    width, height = picture.size if picture else (columns, rows)
    return Card(
        image_id=one.image_id,
        picture=_address(picture) if picture else None,
        width=width,
        height=height,
        marks=(*true, *said),
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


def _mark(box: Box, words: str, columns: int, rows: int, *, is_true: bool) -> Mark:
    across, down = 100 / columns, 100 / rows
    return Mark(
        left=round(box.x_min * across, 2),
        top=round(box.y_min * down, 2),
        width=round((box.x_max - box.x_min) * across, 2),
        height=round((box.y_max - box.y_min) * down, 2),
        words=words,
        is_true=is_true,
    )


def _true_labels(truth: Statement) -> tuple[str, ...]:
    placed = dict.fromkeys(label for label, _ in truth.boxes)
    return (*placed, *sorted(truth.present - truth.placed), *sorted(truth.diagnoses))


def _caption(finding: Finding) -> str:
    return f"{finding.label} {finding.score:.2f}"
