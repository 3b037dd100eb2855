"""How well the scores of a label rank the images that have it above those that have not.

AUROC = P(score of an image with the label > score of one without), a tie counting half: the Mann-Whitney
statistic, found from ranks (Hanley & McNeil 1982). It needs a score for every image, also where the label was
not said, so ``Reading.label_scores``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

import numpy as np
from scipy.stats import rankdata

from training.evaluation.bootstrap import Figures, Images, Values, ratio
from training.evaluation.classification import Table, modes, table


class Auroc:
    """Each label's AUROC, and the mean over the labels that have one."""

    def __init__(
        self,
        labels: Sequence[str],
        truth: Sequence[AbstractSet[str]],
        scores: Sequence[Mapping[str, float]],
        judged: Sequence[AbstractSet[str]] | None = None,
    ) -> None:
        """Args:
        labels: Those that are measured; an image without scores is left out of all.
        truth: The labels that each image has.
        scores: Of each image, every label's.
        judged: Of each image, the labels that were looked for; by default all. Others do not count there.
        """
        self._labels = list(labels)
        self._modes = modes(labels, finding=False)
        self._truth = table(truth, labels)  # (images, labels)
        self._scored = np.array([bool(one) for one in scores], dtype=np.bool_)  # (images,)
        self._scores = np.array(
            [[one[label] if one else np.nan for label in labels] for one in scores], dtype=np.float64
        ).reshape(-1, len(labels))  # (images, labels), NaN where the label was not judged
        if judged is not None:
            self._scores[~table(judged, labels)] = np.nan

    def values(self, images: Images) -> Values:
        """("auroc", "label", label) and ("auroc", mode)."""
        images = images[self._scored[images]]
        areas = _areas(self._truth[images], self._scores[images])  # (labels,)
        by_label = dict(zip(self._labels, areas.tolist(), strict=True))
        values: Values = {("auroc", "label", label): area for label, area in by_label.items()}
        for mode, chosen in self._modes.items():
            defined = [by_label[label] for label in chosen if not np.isnan(by_label[label])]
            values["auroc", mode] = float(np.mean(defined)) if defined else np.nan
        return values


def _areas(truth: Table, scores: Figures) -> Figures:
    """(labels,); NaN where all or none of the images have the label."""
    known = ~np.isnan(scores)  # (images, labels)
    with_label = (truth & known).sum(axis=0).astype(np.float64)  # (labels,)
    without = (~truth & known).sum(axis=0).astype(np.float64)  # (labels,)
    # What is not known ranks above all, where it moves no other rank.
    ranked = np.where(known, scores, np.inf)  # (images, labels)
    ranks = rankdata(ranked, axis=0) if len(scores) else scores  # (images, labels), ties share their mean
    above = np.where(truth & known, ranks, 0.0).sum(axis=0) - with_label * (with_label + 1) / 2  # (labels,)
    return ratio(above, with_label * without)
