"""Average precision against the definition written out, and by hand."""

from __future__ import annotations

import numpy as np
import pytest

from litegpt.boxes import Box
from litegpt.findings import Finding, Reading
from tests.training.evaluation.random_cases import FEW, random_cases
from training.evaluation.average_precision import THRESHOLDS, AveragePrecision
from training.evaluation.bootstrap import Values
from training.evaluation.statements import Statement

WHOLE = Box(0, 0, 10, 10)
ASIDE = Box(50, 50, 60, 60)


def measured(truths: list[Statement], readings: list[Reading]) -> Values:
    return AveragePrecision(FEW, truths, readings).values(np.arange(len(truths)))


def written_out(label: str, truths: list[Statement], readings: list[Reading], threshold: float) -> float:
    """Match greedily from the best score down, make precision monotone, read it at recall 0, 0.01, … 1."""
    true = [[box for name, box in truth.boxes if name == label] for truth in truths]
    ranked = sorted(
        (
            (finding.score, image, finding.box)
            for image, reading in enumerate(readings)
            for finding in (*reading.findings, *reading.candidates)
            if finding.label == label and finding.box is not None
        ),
        key=lambda one: -one[0],
    )
    free = [list(boxes) for boxes in true]
    hits = []
    for _, image, box in ranked:
        best = max(free[image], key=box.iou, default=None)
        hits.append(best is not None and box.iou(best) >= threshold)
        if best is not None and hits[-1]:
            free[image].remove(best)
    boxes = sum(map(len, true))
    if not boxes:
        return float("nan")
    points = [
        (sum(hits[:count]) / boxes, sum(hits[:count]) / count) for count in range(1, len(hits) + 1)
    ]  # recall, precision
    recalls = [step / 100 for step in range(101)]
    return sum(max((p for r, p in points if r >= at - 1e-12), default=0.0) for at in recalls) / 101


@pytest.mark.parametrize("seed", range(4))
def test_it_is_the_definition_written_out(seed: int) -> None:
    cases, readings = random_cases(np.random.default_rng(seed), 25)
    truths = [case.truth for case in cases]
    values = measured(truths, readings)
    for threshold in THRESHOLDS:
        expected = [written_out(label, truths, readings, threshold) for label in FEW]
        assert [values["ap", str(threshold), label] for label in FEW] == pytest.approx(expected)
        assert values["map", str(threshold)] == pytest.approx(np.mean(expected))
        assert 0.05 < np.mean(expected) < 0.95


def test_a_candidate_that_is_right_helps_and_one_that_is_wrong_and_last_costs_nothing() -> None:
    label = FEW[0]
    truths = [Statement(((label, WHOLE), (label, ASIDE)), frozenset())]
    said = (Finding(label, 0.9, WHOLE),)
    right, wrong = Finding(label, 0.2, ASIDE), Finding(label, 0.1, Box(80, 80, 90, 90))
    # One of two boxes, precision 1 up to recall 0.5: 51 of the 101 recalls.
    assert measured(truths, [Reading(said)])["ap", "0.5", label] == pytest.approx(51 / 101)
    assert measured(truths, [Reading(said, candidates=(right,))])["ap", "0.5", label] == pytest.approx(1)
    assert measured(truths, [Reading(said, candidates=(right, wrong))])["map", "0.5"] == pytest.approx(1)


def test_labels_without_a_true_box_take_no_part() -> None:
    truths = [Statement(((FEW[0], WHOLE),), frozenset())]
    values = measured(truths, [Reading((Finding(FEW[0], 0.5, WHOLE), Finding(FEW[1], 0.9, WHOLE)))])
    assert values["map", "0.4"] == pytest.approx(1)
    assert np.isnan(values["ap", "0.4", FEW[1]])


def test_without_true_boxes_there_is_none_and_without_said_ones_it_is_0() -> None:
    nothing, something = Statement((), frozenset()), Statement(((FEW[0], WHOLE),), frozenset())
    assert np.isnan(measured([nothing], [Reading((Finding(FEW[0], 0.5, WHOLE),))])["map", "0.5"])
    assert measured([something], [Reading(())])["map", "0.5"] == 0
