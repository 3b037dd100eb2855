"""Where the boxes are: what of the true ones was found, what of the said ones is true, how well they fit.

The IoU is the plain one, in pixels of the image. A box is only ever compared with boxes of its own label.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from litegpt.boxes import Box
from training.evaluation.bootstrap import Figures, Path, Ratios
from training.evaluation.published import THRESHOLDS
from training.evaluation.statements import Statement, boxes_of

LabelledBox = tuple[str, Box]


def best_overlaps(wanted: Sequence[LabelledBox], offered: Sequence[LabelledBox]) -> list[tuple[str, float]]:
    """For each wanted box: its label, and its largest IoU with an offered box of that label, or 0."""
    return [
        (label, max((box.iou(other) for name, other in offered if name == label), default=0.0))
        for label, box in wanted
    ]


def overlaps(labels: Sequence[str], truths: Sequence[Statement], said: Sequence[Statement]) -> Ratios:
    """Accuracy@t by the plain IoU, box precision, and the mean IoU, over all boxes and label by label.

    ("accuracy", "plain", t): the part of the true boxes that have a said box with an IoU above t.
    ("box precision", t): the part of the said boxes that have a true one; what Accuracy@t does not ask.
    ("iou", "all") and ("iou", "label", label): the mean, over true boxes, of the best IoU with a said box.
    ("accuracy", "label", label): Accuracy at the largest t.
    """
    pairs = [
        (boxes_of(truth, labels), boxes_of(one, labels)) for truth, one in zip(truths, said, strict=True)
    ]
    found = [best_overlaps(wanted, offered) for wanted, offered in pairs]
    true = [best_overlaps(offered, wanted) for wanted, offered in pairs]
    parts: dict[Path, tuple[Figures, Figures]] = {("iou", "all"): (_sums(found), _counts(found))}
    for threshold in THRESHOLDS:
        parts["accuracy", "plain", str(threshold)] = (_counts(found, above=threshold), _counts(found))
        parts["box precision", str(threshold)] = (_counts(true, above=threshold), _counts(true))
    for label in labels:
        own = [[(name, overlap) for name, overlap in one if name == label] for one in found]
        parts["iou", "label", label] = (_sums(own), _counts(own))
        parts["accuracy", "label", label] = (_counts(own, above=THRESHOLDS[-1]), _counts(own))
    return Ratios(parts)


def _sums(images: Sequence[Sequence[tuple[str, float]]]) -> Figures:
    return np.array([sum(overlap for _, overlap in boxes) for boxes in images])  # (images,)


def _counts(images: Sequence[Sequence[tuple[str, float]]], above: float = -1.0) -> Figures:
    return np.array([sum(overlap > above for _, overlap in boxes) for boxes in images])  # (images,)
