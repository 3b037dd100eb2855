"""Which finding is said where another one is: boxes paired by place alone, whatever their labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from training.evaluation.journal import Examined
from training.evaluation.statements import boxes_of, stated, with_comparable_boxes
from training.report.pairing import LabelledBox, pairs

OVERLAP: Final = 0.5
"""IoU above which two boxes are at the same place."""

MISSED: Final = "missed"
INVENTED: Final = "invented"


@dataclass(frozen=True, slots=True)
class Confusion:
    """How often each label was said at the place of each true one.

    Attributes:
        true: Names of the rows: labels, then ``INVENTED``, for said boxes where no true one is.
        said: Names of the columns: labels, then ``MISSED``, for true boxes where none is said.
        counts: (rows, columns).
    """

    true: tuple[str, ...]
    said: tuple[str, ...]
    counts: npt.NDArray[np.int64]


def confusion(examined: Sequence[Examined], labels: Sequence[str]) -> Confusion:
    """Counts over all images; labels that are neither true nor said have no row and no column."""
    counted = []
    for one in examined:
        said = stated(with_comparable_boxes(one.reading, one.case))
        counted += paired(boxes_of(one.case.truth, labels), boxes_of(said, labels))
    occurring = [label for label in labels if any(label in pair for pair in counted)]
    true, columns = (*occurring, INVENTED), (*occurring, MISSED)
    counts = np.zeros((len(true), len(columns)), dtype=np.int64)
    for true_label, said_label in counted:
        counts[true.index(true_label), columns.index(said_label)] += 1
    return Confusion(true, columns, counts)


def paired(true: Sequence[LabelledBox], said: Sequence[LabelledBox]) -> list[tuple[str, str]]:
    """(true label, said label) of one image: boxes one to one, so that together they overlap most.

    True boxes without a partner are ``MISSED``; said ones are ``INVENTED``.
    """
    partners = {row: column for row, (column, _) in pairs(true, said, OVERLAP).items()}
    found = [
        (label, said[partners[row]][0] if row in partners else MISSED) for row, (label, _) in enumerate(true)
    ]
    taken = set(partners.values())
    return found + [(INVENTED, label) for column, (label, _) in enumerate(said) if column not in taken]
