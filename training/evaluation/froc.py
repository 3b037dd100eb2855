"""FROC: how many of the true boxes are found at how many false ones per image.

As in LUNA16 (Setio et al. 2017): seven rates from 1/8 to 8 false positives per image, and the mean over them.
A box is a hit when its IoU with a true box of its label is above ``HIT``; of several hits on one true box the
best score counts and the others for nothing; a box that hits none is a false positive. All labels are pooled:
the rates are per image, not per label.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Final

import numpy as np

from litegpt.boxes import Box
from litegpt.findings import Reading
from training.evaluation.bootstrap import Figures, Images, Values
from training.evaluation.statements import Statement, boxes_of, ranked

HIT: Final = 0.4
"""The IoU to be exceeded, as in VinDr-CXR's own challenge."""

RATES: Final = tuple(Fraction(2) ** power for power in range(-3, 4))
"""False positives per image."""


class Froc:
    """Sensitivity at each rate."""

    def __init__(
        self, labels: Sequence[str], truths: Sequence[Statement], readings: Sequence[Reading]
    ) -> None:
        """Args:
        labels: Those that are measured.
        truths: What is true of each image.
        readings: What a model made of it; all boxes that it placed are ranked by their scores.
        """
        judged = [
            _judge(boxes_of(truth, labels), ranked(reading, labels))
            for truth, reading in zip(truths, readings, strict=True)
        ]
        self._images = len(judged)
        self._hits = np.array([score for hits, _ in judged for score in hits])  # (true boxes,)
        self._hit_images = _owners([hits for hits, _ in judged])  # (true boxes,)
        false = np.array([score for _, scores in judged for score in scores])  # (false positives,)
        order = np.argsort(-false, kind="stable")
        self._false = false[order]
        self._false_images = _owners([scores for _, scores in judged])[order]

    def values(self, images: Images) -> Values:
        """("froc", rate) and ("froc", "mean")."""
        times = np.bincount(images, minlength=self._images)  # (images,), how often each was drawn
        weights = times[self._hit_images]  # (true boxes,)
        false = np.cumsum(times[self._false_images])  # (false positives,), best score first
        boxes = weights.sum()
        values: Values = {}
        for rate in RATES:
            # No threshold may let in the first false positive beyond those allowed, nor what scores the same.
            first = int(np.searchsorted(false, float(rate) * len(images), side="right"))
            limit = self._false[first] if first < len(false) else -np.inf
            found = weights[self._hits > limit].sum()
            values["froc", str(rate)] = float(found / boxes) if boxes else np.nan
        values["froc", "mean"] = float(np.mean(list(values.values())))
        return values

    def curve(self) -> tuple[Figures, Figures]:
        """Over all images: false positives per image, and the sensitivity reached with no more than these.

        It has a point for each place of the threshold, from above the best score to below the lowest.
        """
        scores = np.unique(np.concatenate([self._hits, self._false]))  # ascending
        limits = np.concatenate([[np.inf], scores[np.isfinite(scores)][::-1]])
        false, found = (
            len(scores) - np.searchsorted(np.sort(scores), limits)  # (limits,) how many are no lower
            for scores in (self._false, self._hits)
        )
        return false / self._images, found / max(1, len(self._hits))


def _judge(
    wanted: Sequence[tuple[str, Box]], offered: Sequence[tuple[str, Box, float]]
) -> tuple[list[float], list[float]]:
    """Of one image: the best score that hits each true box (-inf for none), and the false ones' scores."""
    hits = [-np.inf] * len(wanted)
    false = []
    for label, box, score in offered:
        own = [n for n, (name, true) in enumerate(wanted) if name == label and box.iou(true) > HIT]
        for n in own:
            hits[n] = max(hits[n], score)
        if not own:
            false.append(score)
    return hits, false


def _owners(scores: Sequence[Sequence[float]]) -> Images:
    """The image of each score."""
    counts = np.array([len(one) for one in scores], dtype=np.intp)
    return np.repeat(np.arange(len(scores)), counts)
