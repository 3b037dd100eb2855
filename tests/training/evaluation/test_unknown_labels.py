"""Labels that nobody looked for, and labels of which nobody says where they are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, roc_auc_score

from litegpt.boxes import Box
from litegpt.findings import Finding, Reading
from litegpt.vocabulary import DIAGNOSES, NO_FINDING
from tests.training.evaluation.random_cases import FEW, random_cases
from training.evaluation.classification import FINDING
from training.evaluation.measures import evaluate
from training.evaluation.statements import Case, Statement, stated

SOME = (*FEW, *DIAGNOSES)
HERE, THERE = Box(10, 10, 60, 60), Box(80, 80, 130, 130)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_a_label_is_measured_on_the_images_on_which_it_was_judged(seed: int) -> None:
    rng = np.random.default_rng(seed)
    cases, readings = random_cases(rng, 30)
    cases = [replace(case, judged=frozenset(label for label in SOME if rng.random() < 0.6)) for case in cases]
    measured = evaluate(cases, readings, labels=SOME)
    for label in SOME:
        pairs = [(case, one) for case, one in zip(cases, readings, strict=True) if label in case.judged]
        assert measured.judged[label] == len(pairs)
        true = [label in case.truth.named for case, _ in pairs]
        said = [label in stated(one).named for _, one in pairs]
        expected = f1_score(true, said, zero_division=0) if pairs else 0.0
        assert measured.value("classification", "exact", "label", label, "f1") == pytest.approx(expected)
        if len(set(true)) == 2:
            area = roc_auc_score(true, [one.label_scores[label] for _, one in pairs])
            assert measured.value("auroc", "label", label) == pytest.approx(area)
        else:
            assert measured.value("auroc", "label", label) is None


def test_finding_is_asked_for_where_no_finding_was_judged() -> None:
    normal, silent = Statement((), frozenset({NO_FINDING})), Statement((), frozenset())
    without = frozenset(SOME) - {NO_FINDING}
    cases = [Case(normal, 9, 9), Case(silent, 9, 9), Case(silent, 9, 9, without)]
    says_normal = Reading((Finding(NO_FINDING, 1.0),))
    measured = evaluate(cases, [says_normal] * 3, labels=SOME)
    # Only the second image has a finding that was denied: of the third nobody knows.
    assert measured.value("recall", FINDING) == 0
    assert measured.value("recall", NO_FINDING) == 1
    assert measured.value("classification", "published", "label", NO_FINDING, "precision") == 0.5


def test_a_box_of_a_label_that_is_there_without_a_place_is_neither_right_nor_wrong() -> None:
    one, other = FEW[:2]
    placed = Statement(((one, HERE),), frozenset())
    somewhere = Statement(((other, THERE),), frozenset(), frozenset({one}))
    said = Reading((Finding(one, 0.9, HERE), Finding(other, 0.8, THERE)))
    measured = evaluate(
        [Case(placed, 200, 200), Case(somewhere, 200, 200)],
        [replace(said, findings=said.findings[:1]), said],
        labels=SOME,
    )
    for path in (("box precision", "0.5"), ("accuracy", "plain", "0.5"), ("froc", "1/8"), ("map", "0.5")):
        assert measured.value(*path) == pytest.approx(1), path
    assert measured.value("classification", "exact", "label", one, "f1") == 1
    absent = evaluate(
        [Case(placed, 200, 200), Case(replace(somewhere, present=frozenset()), 200, 200)],
        [replace(said, findings=said.findings[:1]), said],
        labels=SOME,
    )
    assert absent.value("box precision", "0.5") == pytest.approx(2 / 3)


def test_a_local_label_that_is_said_without_a_box_is_a_label() -> None:
    said = stated(Reading((Finding(FEW[0], 0.5), Finding("COPD", 0.5))))
    assert said == Statement((), frozenset({"COPD"}), frozenset({FEW[0]}))
    assert said.labels == {FEW[0]}
