"""One image that a model is to read: where its pixels come from, and what is true of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from litegpt.boxes import Box
from litegpt.radiograph import Radiograph
from training.datasets.example import Size
from training.evaluation.statements import Case, Statement


@dataclass(frozen=True, slots=True)
class Subject:
    """An image of a test set before it is read.

    Attributes:
        image_id: The test set's own name of it.
        truth: What is true of it; boxes in pixels of its matrix.
        judged: The labels that were looked for.
        load: Gets its pixels; raises RadiographError or OSError where that fails.
        file: Its file, if it has one.
        size: Of the matrix that the boxes refer to; None where only the pixels tell.
    """

    image_id: str
    truth: Statement
    judged: frozenset[str]
    load: Callable[[], Radiograph]
    file: Path | None = None
    size: Size | None = None

    def case(self, size: Size | None) -> Case:
        """What the measures compare with, boxes cut to the image.

        A label whose only boxes lie outside of the image stays, without a place.

        Args:
            size: Of the image as it was read. None where it could not be: then what the test set says, or a
                size that holds the boxes, which is as good, since nothing was said that could overlap them.
        """
        boxes = self.truth.boxes
        columns, rows = size or self.size or _size_around([box for _, box in boxes])
        cut = [(label, _cut(box, columns, rows)) for label, box in boxes]
        inside = tuple((label, box) for label, box in cut if box is not None)
        outside = {label for label, box in cut if box is None}
        truth = Statement(inside, self.truth.diagnoses, self.truth.present | outside)
        return Case(truth, columns, rows, self.judged)


def _cut(box: Box, columns: int, rows: int) -> Box | None:
    try:
        return box.clipped(columns, rows)
    except ValueError:
        return None


def _size_around(boxes: list[Box]) -> Size:
    return Size(
        max([1, *(int(box.x_max) + 1 for box in boxes)]), max([1, *(int(box.y_max) + 1 for box in boxes)])
    )
