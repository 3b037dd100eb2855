"""Average precision of ranked boxes, by pycocotools.

COCO's rules: boxes are matched one to one from the best score down, each to the true box of its label with
the largest IoU of at least t; precision is made monotone and read off at 101 recalls. A label without any
true box has no average precision and takes no part in the mean.
"""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from litegpt.boxes import Box
from litegpt.findings import Reading
from training.evaluation.bootstrap import Figures, Images, Values
from training.evaluation.statements import Statement, boxes_of, ranked

THRESHOLDS: Final = (0.4, 0.5)
"""0.4 as in VinDr-CXR's own challenge, 0.5 as everywhere else."""

_ANY_AREA: Final = [[0.0, 1e10]]


@dataclass(frozen=True, slots=True)
class _Matches:
    """What pycocotools found of one label's boxes.

    Attributes:
        scores: (boxes,) of the placed boxes.
        hits: (thresholds, boxes), the id of the true box that each is matched to, or 0.
        owners: (boxes,) their images.
        true: (images,) how many true boxes there are.
    """

    scores: Figures
    hits: Figures
    owners: Images
    true: Images

    @classmethod
    def of(cls, images: Sequence[Mapping[str, Any] | None]) -> _Matches:
        """Of pycocotools' entries for one label, one an image."""
        there = [one for one in images if one is not None]
        counts = [0 if one is None else len(one["dtIds"]) for one in images]
        return cls(
            np.array([score for one in there for score in one["dtScores"]]),
            np.concatenate([np.empty((len(THRESHOLDS), 0)), *(one["dtMatches"] for one in there)], axis=1),
            np.repeat(np.arange(len(images)), counts),
            np.array([0 if one is None else len(one["gtIds"]) for one in images]),
        )

    def drawn(self, images: Images) -> dict[str, Figures]:
        """The boxes of a draw of images, as pycocotools' entry for a single image."""
        times = np.bincount(images, minlength=len(self.true))  # (images,), how often each was drawn
        boxes = np.repeat(np.arange(len(self.scores)), times[self.owners])
        hits = self.hits[:, boxes]
        return {
            "dtScores": self.scores[boxes],
            "dtMatches": hits,
            "dtIgnore": np.zeros_like(hits),
            "gtIgnore": np.zeros(times @ self.true),
        }


class AveragePrecision:
    """Each label's average precision, and the mean over the labels with true boxes (mAP)."""

    def __init__(
        self, labels: Sequence[str], truths: Sequence[Statement], readings: Sequence[Reading]
    ) -> None:
        """Args:
        labels: Those that are measured.
        truths: What is true of each image.
        readings: What a model made of it; all boxes that it placed are ranked by their scores.
        """
        self._labels = list(labels)
        true = [[(*one, 1.0) for one in boxes_of(truth, labels)] for truth in truths]
        offered = [ranked(reading, labels) for reading in readings]
        with _silence():
            self._judge = COCOeval(self._dataset(true), self._dataset(offered), "bbox")
            parameters = self._judge.params
            parameters.imgIds, parameters.catIds = list(range(len(truths))), list(range(len(labels)))
            parameters.iouThrs = np.array(THRESHOLDS)
            parameters.areaRng, parameters.areaRngLbl = _ANY_AREA, ["all"]
            parameters.maxDets = [sys.maxsize]
            self._judge.evaluate()
        judged = self._judge.evalImgs  # by label, then image; None where there is no box
        by_label = [judged[n * len(truths) : (n + 1) * len(truths)] for n in range(len(labels))]
        self._matches = [_Matches.of(images) for images in by_label]
        # From here on all boxes of a draw are given as those of one image, which counts the same.
        parameters.imgIds = self._judge._paramsEval.imgIds = [0]

    def values(self, images: Images) -> Values:
        """("map", t) and ("ap", t, label)."""
        areas = self._precision(images).mean(axis=1)  # (thresholds, labels)
        values: Values = {}
        for threshold, by_label in zip(THRESHOLDS, areas, strict=True):
            defined = by_label[~np.isnan(by_label)]
            values["map", str(threshold)] = float(defined.mean()) if defined.size else np.nan
            for label, area in zip(self._labels, by_label.tolist(), strict=True):
                values["ap", str(threshold), label] = area
        return values

    def curves(self, images: Images) -> tuple[Figures, dict[tuple[str, str], Figures]]:
        """Precision over recall: (recalls,), and by (t, label) the precisions at these.

        Labels without a true box have no curve.
        """
        precision = self._precision(images)  # (thresholds, recalls, labels)
        curves = {
            (str(threshold), label): precision[row, :, column]
            for row, threshold in enumerate(THRESHOLDS)
            for column, label in enumerate(self._labels)
            if not np.isnan(precision[row, 0, column])
        }
        return np.asarray(self._judge.params.recThrs), curves

    def _precision(self, images: Images) -> Figures:
        """(thresholds, recalls, labels), NaN for labels without a true box."""
        self._judge.evalImgs = [matches.drawn(images) for matches in self._matches]
        with _silence():
            self._judge.accumulate()
        precision = self._judge.eval["precision"][:, :, :, 0, 0]
        return np.where(precision < 0, np.nan, precision)

    def _dataset(self, images: Sequence[Sequence[tuple[str, Box, float]]]) -> COCO:
        annotations: list[dict[str, Any]] = []
        for image, boxes in enumerate(images):
            for label, box, score in boxes:
                annotations.append(
                    {
                        "id": len(annotations) + 1,  # 0 would read as "unmatched"
                        "image_id": image,
                        "category_id": self._labels.index(label),
                        "bbox": [box.x_min, box.y_min, box.x_max - box.x_min, box.y_max - box.y_min],
                        "area": box.area,
                        "iscrowd": 0,
                        "score": score,
                    }
                )
        dataset = COCO()
        dataset.dataset = {
            "images": [{"id": image} for image in range(len(images))],
            "categories": [{"id": n} for n in range(len(self._labels))],
            "annotations": annotations,
        }
        dataset.createIndex()
        return dataset


def _silence() -> contextlib.redirect_stdout[io.StringIO]:
    """pycocotools reports its progress on standard output, where our JSON goes."""
    return contextlib.redirect_stdout(io.StringIO())
