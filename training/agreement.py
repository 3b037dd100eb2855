"""Several readers of one image become one: which of their boxes and labels count.

Boxes:

- ``first``     what LiteGPT's published preprocessing does: of boxes of one label that overlap, the first row
- ``wbf``       weighted boxes fusion (Solovyev et al. 2021): overlapping boxes become their mean
- ``majority``  the fused boxes that more than half of the readers drew
- ``all``       every box of every reader

Labels of the whole image, by ``union`` (one reader is enough) or ``majority`` (more than half). "No finding"
is the reverse: by union it takes every reader to say so, and it never stands beside a finding. The published
code takes the union of "No finding" too, and then drops the findings of an image in which one reader saw
nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import Final, Literal

from ensemble_boxes import weighted_boxes_fusion

from litegpt.boxes import Box
from litegpt.vocabulary import LOCAL_LABELS, NO_FINDING
from training.datasets.example import Example, MarkedFinding

BoxRule = Literal["first", "wbf", "majority", "all"]
LabelRule = Literal["union", "majority"]

AGREED: Final = "agreed"
"""The reader of what was agreed on."""

FIRST_IOU: Final = 0.5
"""Above this ``first`` takes two boxes for the same finding, as published."""

FUSION_IOU: Final = 0.4
"""Above this fusion does; the threshold of the VinBigData competition, whose second place fused with it."""


def agreed(example: Example, boxes: BoxRule, labels: LabelRule, *, fusion_iou: float = FUSION_IOU) -> Example:
    """What the readers of an image agree on, as the one reader ``AGREED``.

    Args:
        example: As a dataset's reader gives it.
        boxes: Rule for the boxes.
        labels: Rule for the labels of the whole image; the label of a box that is kept is kept.
        fusion_iou: Above which IoU ``wbf`` and ``majority`` take two boxes for the same finding.

    Returns:
        The example with findings in the vocabulary's order, then from top to bottom and from left to right.
    """
    kept = _agreed_boxes(example, boxes, fusion_iou)
    ordered = sorted(kept, key=lambda item: (LOCAL_LABELS.index(item[0]), item[1].y_min, item[1].x_min))
    findings = tuple(MarkedFinding(label, box, AGREED) for label, box in ordered)
    said = _agreed_labels(example, labels) | {label for label, _ in kept}
    if len(said) > 1:
        said -= {NO_FINDING}
    return replace(example, findings=findings, labels={AGREED: frozenset(said)})


def _agreed_boxes(example: Example, rule: BoxRule, fusion_iou: float) -> list[tuple[str, Box]]:
    if rule == "first":
        return [
            (label, box)
            for label in {finding.label: None for finding in example.findings}
            for box in first_of_each([finding.box for finding in example.findings if finding.label == label])
        ]
    if rule == "all" or len(example.readers) < 2:
        return [(finding.label, finding.box) for finding in example.findings]
    fused = _fused(example, fusion_iou)
    least = 0.5 if rule == "majority" else 0.0
    return [(label, box) for label, box, share in fused if share > least]


def _agreed_labels(example: Example, rule: LabelRule) -> set[str]:
    readers = len(example.readers)
    votes = Counter(label for said in example.labels.values() for label in said)
    if rule == "majority":
        return {label for label, count in votes.items() if 2 * count > readers}
    return {label for label, count in votes.items() if label != NO_FINDING or count == readers}


def first_of_each(boxes: Sequence[Box]) -> list[Box]:
    """Groups boxes of one label as the published code does, and keeps the first of each group.

    Pairs are looked at in order. Two that overlap and belong nowhere yet found a group; otherwise the second
    joins the first's group, even out of another one, or the first, where it has none, joins the second's. So
    two groups never become one.

    Args:
        boxes: In the order of the file's rows.
    """
    groups: list[int | None] = [None] * len(boxes)
    founded = 0
    for one, other in combinations(range(len(boxes)), 2):
        if inclusive_iou(boxes[one], boxes[other]) <= FIRST_IOU:
            continue
        if groups[one] is None and groups[other] is None:
            groups[one] = groups[other] = founded
            founded += 1
        elif groups[one] is not None:
            groups[other] = groups[one]
        else:
            groups[one] = groups[other]
    return [
        box for place, box in enumerate(boxes) if groups[place] is None or groups[place] not in groups[:place]
    ]


def inclusive_iou(one: Box, other: Box) -> float:
    """IoU of the published code, for which the corners are pixels within the box: each side is 1 longer."""
    width = min(one.x_max, other.x_max) - max(one.x_min, other.x_min) + 1
    height = min(one.y_max, other.y_max) - max(one.y_min, other.y_min) + 1
    common = max(0.0, width) * max(0.0, height)
    return common / (_inclusive_area(one) + _inclusive_area(other) - common)


def _inclusive_area(box: Box) -> float:
    return (box.x_max - box.x_min + 1) * (box.y_max - box.y_min + 1)


def _fused(example: Example, iou: float) -> list[tuple[str, Box, float]]:
    """Fused boxes, each with the share of the readers who drew it."""
    if not example.findings:
        return []
    # Any scale will do, the size of the image need not be known: IoU does not depend on it
    scale = max(max(finding.box.x_max, finding.box.y_max) for finding in example.findings)
    by_reader = [
        [finding for finding in example.findings if finding.reader == reader] for reader in example.readers
    ]
    boxes, shares, labels = weighted_boxes_fusion(
        [[_corners(finding.box, scale) for finding in findings] for findings in by_reader],
        [[1.0] * len(findings) for findings in by_reader],
        [[LOCAL_LABELS.index(finding.label) for finding in findings] for findings in by_reader],
        iou_thr=iou,
        conf_type="box_and_model_avg",
    )
    return [
        (LOCAL_LABELS[int(label)], Box(*(float(side) * scale for side in box)), float(share))
        for box, share, label in zip(boxes, shares, labels, strict=True)
    ]


def _corners(box: Box, scale: float) -> list[float]:
    return [box.x_min / scale, box.y_min / scale, box.x_max / scale, box.y_max / scale]
