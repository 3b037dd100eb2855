"""Precision over recall, label by label: of labels ranked by their scores, and of boxes ranked by theirs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score, precision_recall_curve

from training.evaluation.average_precision import AveragePrecision
from training.evaluation.journal import Examined
from training.evaluation.statements import with_comparable_boxes

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PrecisionRecall:
    """One curve.

    Attributes:
        recall: (points,) ascending.
        precision: (points,).
        average: The average precision.
    """

    recall: Numbers
    precision: Numbers
    average: float


def label_curves(examined: Sequence[Examined], labels: Sequence[str]) -> dict[str, PrecisionRecall]:
    """Of each label that some images have and some have not, where the readings have scores."""
    curves = {}
    for label in labels:
        pairs = [
            (label in one.case.truth.named, one.reading.label_scores[label])
            for one in examined
            if label in one.case.judged and label in one.reading.label_scores
        ]
        true, scores = [here for here, _ in pairs], [score for _, score in pairs]
        if len(set(true)) == 2:
            precision, recall, _ = precision_recall_curve(true, scores)  # from the lowest threshold up
            start = int(np.argmin(recall == 1)) - 1 if not (recall == 1).all() else 0
            average = float(average_precision_score(true, scores))
            curves[label] = PrecisionRecall(recall[start:][::-1], precision[start:][::-1], average)
    return curves


def box_curves(
    examined: Sequence[Examined], labels: Sequence[str], threshold: str = "0.5"
) -> dict[str, PrecisionRecall]:
    """Of each label with true boxes, as the mAP at this threshold has them."""
    readings = [with_comparable_boxes(one.reading, one.case) for one in examined]
    measure = AveragePrecision(labels, [one.case.truth for one in examined], readings)
    recall, curves = measure.curves(np.arange(len(examined)))
    return {
        label: PrecisionRecall(recall, precision, float(precision.mean()))
        for (limit, label), precision in curves.items()
        if limit == threshold
    }


def mean_curve(curves: Mapping[str, PrecisionRecall]) -> PrecisionRecall:
    """Mean over the labels of the best precision at each recall or a larger one, at 101 recalls."""
    recalls = np.linspace(0, 1, 101)
    means = np.mean([_monotone_at(curve, recalls) for curve in curves.values()], axis=0)
    return PrecisionRecall(recalls, means, float(np.mean([curve.average for curve in curves.values()])))


def _monotone_at(curve: PrecisionRecall, recalls: Numbers) -> Numbers:
    best = np.maximum.accumulate(curve.precision[::-1])[::-1]  # (points,)
    places = np.searchsorted(curve.recall, recalls - 1e-9, side="left")  # (recalls,)
    return np.where(places < len(best), best[np.minimum(places, len(best) - 1)], 0.0)
