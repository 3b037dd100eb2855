"""The measures, against hand-worked cases and scikit-learn's definition written out."""

from __future__ import annotations

import numpy as np
import pytest

from litegpt.boxes import Box
from litegpt.findings import Finding, Reading
from litegpt.vocabulary import NO_FINDING
from training.evaluation import Statement, evaluation, f1, matches, score
from training.phantom.radiograph import phantom

WHOLE = Box(0, 0, 10, 10)
HALF = Box(0, 0, 10, 5)
"""IoU with ``WHOLE``: 50 / 100."""
THIRD = Box(5, 0, 15, 10)
"""IoU with ``WHOLE``: 50 / 150."""


def statement(*boxes: tuple[str, Box], diagnoses: tuple[str, ...] = ("Other disease",)) -> Statement:
    return Statement(boxes, frozenset(diagnoses))


def test_accuracy_counts_true_boxes_found_above_the_threshold() -> None:
    truth = [statement(("Cardiomegaly", WHOLE), ("Calcification", WHOLE)), statement(("Cardiomegaly", WHOLE))]
    said = [statement(("Cardiomegaly", THIRD), ("Atelectasis", WHOLE)), statement(("Cardiomegaly", HALF))]
    measured = score(truth, said)
    # Three true boxes. Above 0.3: THIRD and HALF. Above 0.5 (strictly): none.
    assert measured.accuracy == {0.3: pytest.approx(2 / 3), 0.5: 0}
    # Three predicted boxes, of which the same two are true.
    assert measured.precision == {0.3: pytest.approx(2 / 3), 0.5: 0}


def test_more_boxes_cost_precision_but_not_accuracy() -> None:
    truth = [statement(("Cardiomegaly", WHOLE))]
    said = [statement(("Cardiomegaly", WHOLE), ("Cardiomegaly", Box(50, 50, 60, 60)))]
    measured = score(truth, said)
    assert measured.accuracy[0.5] == 1
    assert measured.precision[0.5] == 0.5


def test_matches_name_the_label_of_each_wanted_box() -> None:
    pairs = [
        (statement(("Cardiomegaly", WHOLE), ("Calcification", WHOLE)), statement(("Calcification", WHOLE)))
    ]
    assert list(matches(pairs, 0.3)) == [("Cardiomegaly", False), ("Calcification", True)]


def test_f1_by_hand() -> None:
    pairs = [
        (frozenset({"a"}), frozenset({"a"})),
        (frozenset({"a"}), frozenset({"b"})),
        (frozenset({"b"}), frozenset({"a", "b"})),
        (frozenset[str](), frozenset[str]()),
    ]
    measured = f1(("a", "b", "c"), pairs)
    # a: 1 hit, 1 missed, 1 too many; b: 1 hit, 1 too many; c: never.
    assert measured.by_label == {"a": pytest.approx(2 / 4), "b": pytest.approx(2 / 3), "c": 0}
    assert measured.macro == pytest.approx((2 / 4 + 2 / 3) / 3)
    assert measured.micro == pytest.approx(4 / 7)


def test_f1_from_precision_and_recall() -> None:
    rng = np.random.default_rng(3)
    truth, said = rng.random((200, 3)) < 0.4, rng.random((200, 3)) < 0.5
    labels = ("a", "b", "c")

    def sets(table: np.ndarray) -> list[frozenset[str]]:
        return [frozenset(label for label, there in zip(labels, row, strict=True) if there) for row in table]

    measured = f1(labels, list(zip(sets(truth), sets(said), strict=True)))
    for column, label in enumerate(labels):
        hits = (truth[:, column] & said[:, column]).sum()
        precision, recall = hits / said[:, column].sum(), hits / truth[:, column].sum()
        assert measured.by_label[label] == pytest.approx(2 * precision * recall / (precision + recall))


def test_normal_and_abnormal_are_told_apart() -> None:
    truth = [statement(diagnoses=(NO_FINDING,)), statement(), statement(), statement()]
    said = [statement(), statement(), statement(diagnoses=(NO_FINDING,)), statement(diagnoses=("COPD",))]
    measured = score(truth, said)
    assert measured.normal_as_normal == 0
    assert measured.abnormal_as_abnormal == pytest.approx(2 / 3)


def test_a_reading_that_repeats_the_truth_is_perfect() -> None:
    results = []
    for seed in range(60):
        drawn = phantom(np.random.default_rng(seed))
        findings = [Finding(finding.label, 0.9, finding.box) for finding in drawn.findings]
        findings += [Finding(diagnosis, 0.9) for diagnosis in drawn.diagnoses]
        results.append((drawn, Reading(tuple(findings), {"identify": "", "vqa": ""}, malformed=1)))
    measured = evaluation(results)
    assert measured.scores.local.macro == measured.scores.diagnoses.micro == 1
    assert measured.scores.accuracy == measured.scores.precision == {0.3: 1, 0.5: 1}
    assert measured.malformed_rate == 0.5
