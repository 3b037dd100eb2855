"""Whether scores mean what they say: how often what was given a score turned out to be true."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from training.calibration import BINS, expected_calibration_error
from training.evaluation.journal import Examined
from training.evaluation.statements import boxes_of, with_comparable_boxes
from training.operating_point import IOU


@dataclass(frozen=True, slots=True)
class Reliability:
    """A reliability diagram.

    Attributes:
        scores: (bins,) mean score of each bin; bins have equal counts, as far as they can.
        shares: (bins,) share of each bin that was true.
        error: Expected calibration error: mean distance between the two.
        examples: How many scores there are.
    """

    scores: npt.NDArray[np.float64]
    shares: npt.NDArray[np.float64]
    error: float
    examples: int


def label_reliability(examined: Sequence[Examined], labels: Sequence[str]) -> Reliability | None:
    """Of the scores of labels: whether the image has the label.

    Labels that no image has are left out; None where there are no scores.
    """
    occurring = [label for label in labels if any(label in one.case.truth.named for one in examined)]
    return _reliability(
        [
            (one.reading.label_scores[label], label in one.case.truth.named)
            for one in examined
            for label in occurring
            if label in one.case.judged and label in one.reading.label_scores
        ]
    )


def box_reliability(examined: Sequence[Examined], labels: Sequence[str]) -> Reliability | None:
    """Of the scores of said boxes: whether a true box of the label is there; None where there is no box."""
    pairs = []
    for one in examined:
        true = boxes_of(one.case.truth, labels)
        for finding in with_comparable_boxes(one.reading, one.case).findings:
            if (box := finding.box) is not None and finding.label in labels:
                right = any(label == finding.label and box.iou(other) >= IOU for label, other in true)
                pairs.append((finding.score, right))
    return _reliability(pairs)


def _reliability(pairs: Sequence[tuple[float, bool]]) -> Reliability | None:
    if not pairs:
        return None
    scores = np.array([score for score, _ in pairs])  # (examples,)
    truths = np.array([truth for _, truth in pairs])  # (examples,)
    bins = [part for part in np.array_split(np.argsort(scores, kind="stable"), BINS) if len(part)]
    return Reliability(
        scores=np.array([scores[part].mean() for part in bins]),
        shares=np.array([truths[part].mean() for part in bins]),
        error=expected_calibration_error(scores, truths),
        examples=len(pairs),
    )
