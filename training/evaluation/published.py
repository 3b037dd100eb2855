"""The published code's own rules, to the letter, so that our numbers can stand beside the paper's.

From compute_metrics.py and eval_utils.py of github.com/leduckhai/LiteGPT (release of 2024-07-17), rewritten.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np

from litegpt.boxes import GridBox
from litegpt.vocabulary import DIAGNOSES, LOCAL_LABELS
from training.evaluation.bootstrap import Figures, Path, Ratios
from training.evaluation.classification import with_finding
from training.evaluation.statements import Answers

THRESHOLDS: Final = (0.3, 0.5)

_TAG: Final = re.compile(r"<.*?>")
_BOX: Final = re.compile(r"{<\d+><\d+><\d+><\d+>}")
_FINDING: Final = re.compile(r"<p>([^<]+)</p> \{<(\d+)><(\d+)><(\d+)><(\d+)>\}")


def labels_in(answers: Answers) -> frozenset[str]:
    """The labels whose names are substrings of the answer, and ``Finding`` unless ``No finding`` is.

    Local labels are looked for in the one answer, diagnoses in the other. "ild" is also found in "mild".
    """
    return with_finding(_contained(answers.identify, LOCAL_LABELS) | _contained(answers.vqa, DIAGNOSES))


def without_boxes(text: str) -> str:
    """The text that the text measures compare: without coordinates, the ``<p>`` tags kept."""
    return _BOX.sub("", text)


def boxes_in(text: str) -> dict[str, list[GridBox]]:
    """Boxes on the grid by the name before them, exactly as written."""
    found = defaultdict(list)
    for name, *sides in _FINDING.findall(text):
        x_1, y_1, x_2, y_2 = map(int, sides)
        found[name].append((x_1, y_1, x_2, y_2))
    return dict(found)


def grid_iou(one: GridBox, other: GridBox) -> float:
    """IoU in which a box reaches from its first grid line to one step beyond its last ("+1").

    The convention is that of pixel indices; on a grid of 100 it makes small boxes overlap more.
    """
    width = min(one[2], other[2]) - max(one[0], other[0]) + 1
    height = min(one[3], other[3]) - max(one[1], other[1]) + 1
    shared = max(0, width) * max(0, height)
    area, other_area = ((box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (one, other))
    return shared / (area + other_area - shared)


def found_boxes(reference: str, answer: str, threshold: float) -> list[bool]:
    """For each box of the reference: whether the answer has one of the same name with an IoU above it.

    Nothing is matched one to one and nothing is lost by boxes too many.
    """
    answered = boxes_in(answer)
    return [
        any(grid_iou(box, other) > threshold for other in answered.get(name, ()))
        for name, boxes in boxes_in(reference).items()
        for box in boxes
    ]


def accuracy(references: Sequence[Answers], answers: Sequence[Answers]) -> Ratios:
    """Accuracy@t over all boxes of all reference texts."""
    parts: dict[Path, tuple[Figures, Figures]] = {}
    for threshold in THRESHOLDS:
        found = [
            found_boxes(reference.identify, answer.identify, threshold)
            for reference, answer in zip(references, answers, strict=True)
        ]
        hits, boxes = np.array([sum(one) for one in found]), np.array([len(one) for one in found])
        parts["accuracy", "published", str(threshold)] = (hits, boxes)
    return Ratios(parts)


def _contained(text: str, labels: Iterable[str]) -> frozenset[str]:
    bare = _TAG.sub("", text.lower())
    return frozenset(label for label in labels if label.lower() in bare)
