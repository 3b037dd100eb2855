"""True boxes and said ones paired, one to one, so that together they overlap most."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from litegpt.boxes import Box

LabelledBox = tuple[str, Box]


def pairs(
    true: Sequence[LabelledBox],
    said: Sequence[LabelledBox],
    above: float,
    alike: Callable[[str, str], bool] = lambda label, other: True,
) -> dict[int, tuple[int, float]]:
    """For each true box that has a partner: which said box that is, and their IoU.

    Args:
        true: Of one image.
        said: Of the same image.
        above: The IoU that partners exceed.
        alike: Whether boxes of two labels can be partners.
    """
    overlaps = np.zeros((len(true), len(said)))  # (true, said)
    for row, (label, box) in enumerate(true):
        for column, (other_label, other) in enumerate(said):
            if alike(label, other_label) and (overlap := box.iou(other)) > above:
                overlaps[row, column] = overlap
    rows, columns = linear_sum_assignment(overlaps, maximize=True)
    return {
        int(row): (int(column), float(overlaps[row, column]))
        for row, column in zip(rows, columns, strict=True)
        if overlaps[row, column] > 0
    }
