"""Boxes by the plain IoU, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from litegpt.boxes import Box
from training.evaluation.bootstrap import Values
from training.evaluation.localisation import overlaps
from training.evaluation.statements import Statement

WHOLE = Box(0, 0, 10, 10)
HALF = Box(0, 0, 10, 5)
"""IoU with ``WHOLE``: 50 / 100."""
THIRD = Box(5, 0, 15, 10)
"""IoU with ``WHOLE``: 50 / 150."""

LABELS = ("Cardiomegaly", "Calcification", "Atelectasis")


def statement(*boxes: tuple[str, Box]) -> Statement:
    return Statement(boxes, frozenset())


def measured(truth: list[Statement], said: list[Statement]) -> Values:
    return overlaps(LABELS, truth, said).values(np.arange(len(truth)))


def test_accuracy_counts_true_boxes_found_above_the_threshold() -> None:
    truth = [statement(("Cardiomegaly", WHOLE), ("Calcification", WHOLE)), statement(("Cardiomegaly", WHOLE))]
    said = [statement(("Cardiomegaly", THIRD), ("Atelectasis", WHOLE)), statement(("Cardiomegaly", HALF))]
    values = measured(truth, said)
    # Three true boxes. Above 0.3: THIRD and HALF. Above 0.5, which HALF only reaches: none.
    assert values["accuracy", "plain", "0.3"] == pytest.approx(2 / 3)
    assert values["accuracy", "plain", "0.5"] == 0
    # Three said boxes, of which the same two are true.
    assert values["box precision", "0.3"] == pytest.approx(2 / 3)
    assert values["box precision", "0.5"] == 0


def test_more_boxes_cost_precision_but_not_accuracy() -> None:
    said = [statement(("Cardiomegaly", WHOLE), ("Cardiomegaly", Box(50, 50, 60, 60)))]
    values = measured([statement(("Cardiomegaly", WHOLE))], said)
    assert values["accuracy", "plain", "0.5"] == 1
    assert values["box precision", "0.5"] == 0.5


def test_the_iou_of_a_label_is_the_mean_of_the_best_over_its_true_boxes() -> None:
    truth = [statement(("Cardiomegaly", WHOLE), ("Calcification", WHOLE)), statement(("Cardiomegaly", WHOLE))]
    said = [statement(("Cardiomegaly", THIRD), ("Cardiomegaly", HALF)), statement(("Calcification", WHOLE))]
    values = measured(truth, said)
    assert values["iou", "label", "Cardiomegaly"] == pytest.approx((1 / 2 + 0) / 2)
    assert values["iou", "label", "Calcification"] == 0
    assert values["iou", "all"] == pytest.approx((1 / 2 + 0 + 0) / 3)
    assert values["accuracy", "label", "Cardiomegaly"] == 0
    assert np.isnan(values["iou", "label", "Atelectasis"])


def test_labels_that_are_not_measured_do_not_count() -> None:
    values = measured([statement(("Cardiomegaly", WHOLE))], [statement(("Edema", WHOLE))])
    assert np.isnan(values["box precision", "0.5"])
    assert values["accuracy", "plain", "0.5"] == 0
