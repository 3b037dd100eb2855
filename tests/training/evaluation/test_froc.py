"""FROC by hand, and against every threshold tried."""

from __future__ import annotations

import numpy as np
import pytest

from litegpt.boxes import Box
from litegpt.findings import Finding, Reading
from tests.training.evaluation.random_cases import FEW, random_cases
from training.evaluation.bootstrap import Values
from training.evaluation.froc import HIT, RATES, Froc
from training.evaluation.statements import Statement

LABEL, OTHER = FEW[:2]
HERE, THERE = Box(0, 0, 10, 10), Box(50, 50, 60, 60)
NOWHERE = Box(80, 80, 90, 90)


def measured(truths: list[Statement], readings: list[Reading]) -> Values:
    return Froc(FEW, truths, readings).values(np.arange(len(truths)))


def placed(*boxes: tuple[float, Box], label: str = LABEL) -> Reading:
    return Reading(tuple(Finding(label, score, box) for score, box in boxes))


def test_by_hand() -> None:
    """Two images, two true boxes; in order of score: hit, false, hit, false, false."""
    truths = [Statement(((LABEL, HERE), (LABEL, THERE)), frozenset()), Statement((), frozenset())]
    readings = [placed((0.9, HERE), (0.5, THERE), (0.3, NOWHERE)), placed((0.7, HERE), (0.2, THERE))]
    values = measured(truths, readings)
    # Below one false positive in two images (1/2 per image) only the first hit; from there on both.
    expected = {"1/8": 0.5, "1/4": 0.5, "1/2": 1, "1": 1, "2": 1, "4": 1, "8": 1, "mean": 6 / 7}
    assert {path[1]: value for path, value in values.items()} == pytest.approx(expected)


def test_a_second_hit_on_the_same_box_is_neither_found_nor_false() -> None:
    truths = [Statement(((LABEL, HERE), (LABEL, THERE)), frozenset())]
    readings = [placed((0.9, HERE), (0.8, Box(0, 0, 10, 9)), (0.7, THERE))]
    assert measured(truths, readings)["froc", "1/8"] == 1


def test_a_box_of_another_label_is_false() -> None:
    truths = [Statement(((LABEL, HERE),), frozenset())]
    both = Reading((Finding(OTHER, 0.9, HERE), Finding(LABEL, 0.8, HERE)))
    assert measured(truths, [both])["froc", "1/2"] == 0
    assert measured(truths, [both])["froc", "1"] == 1


def test_what_scores_the_same_as_a_false_one_too_many_is_not_counted() -> None:
    truths = [Statement(((LABEL, HERE),), frozenset())]
    assert measured(truths, [placed((0.5, HERE), (0.5, NOWHERE))])["froc", "1/2"] == 0


def test_a_candidate_counts_at_its_own_score() -> None:
    truths = [Statement(((LABEL, HERE),), frozenset())]
    reading = Reading((Finding(LABEL, 0.9, NOWHERE),), candidates=(Finding(LABEL, 0.1, HERE),))
    assert measured(truths, [reading])["froc", "1/2"] == 0
    assert measured(truths, [reading])["froc", "1"] == 1


@pytest.mark.parametrize("seed", range(3))
def test_it_is_the_best_of_all_thresholds_within_the_rate(seed: int) -> None:
    cases, readings = random_cases(np.random.default_rng(seed), 20)
    truths = [case.truth for case in cases]
    values = measured(truths, readings)
    boxes = sum(len(truth.boxes) for truth in truths)
    everything = [[*one.findings, *one.candidates] for one in readings]
    scores = sorted({finding.score for one in everything for finding in one})
    best = dict.fromkeys(RATES, 0.0)
    for threshold in [*scores, 2.0]:
        found = false = 0
        for truth, findings in zip(truths, everything, strict=True):
            kept = [one for one in findings if one.box is not None and one.score >= threshold]
            found += sum(any(_hits(one, *true) for one in kept) for true in truth.boxes)
            false += sum(not any(_hits(one, *true) for true in truth.boxes) for one in kept)
        for rate in RATES:
            if false / len(truths) <= rate:
                best[rate] = max(best[rate], found / boxes)
    assert {rate: values["froc", str(rate)] for rate in RATES} == pytest.approx(best)
    assert len(set(best.values())) > 1


def _hits(finding: Finding, label: str, box: Box) -> bool:
    return finding.label == label and finding.box is not None and finding.box.iou(box) > HIT
