"""Precision, recall and F1 against scikit-learn and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import precision_recall_fscore_support

from litegpt.vocabulary import DIAGNOSES, LABELS, LOCAL_LABELS, NO_FINDING
from training.evaluation.classification import (
    AVERAGES,
    FINDING,
    METRICS,
    Classification,
    modes,
    normality,
    table,
    with_finding,
)


def random_sets(rng: np.random.Generator, images: int, labels: tuple[str, ...]) -> list[frozenset[str]]:
    there = rng.random((images, len(labels))) < rng.uniform(0, 0.5, len(labels))
    return [frozenset(np.array(labels)[row].tolist()) for row in there]


@pytest.mark.parametrize("seed", range(5))
def test_all_averages_are_those_of_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    # Not all of the labels, so that some are never true and never said.
    truth, said = random_sets(rng, 60, LABELS[:25]), random_sets(rng, 60, LABELS[:25])
    values = Classification("any", modes(LABELS, finding=False), truth, said).values(np.arange(60))
    for mode, labels in (("local", LOCAL_LABELS), ("diagnoses", DIAGNOSES), ("combined", LABELS)):
        true, named = table(truth, labels), table(said, labels)
        for average in AVERAGES:
            figures = precision_recall_fscore_support(true, named, average=average, zero_division=0)
            ours = [values["classification", "any", mode, average, metric] for metric in METRICS]
            assert ours == pytest.approx(figures[:3])
        by_label = precision_recall_fscore_support(true, named, average=None, zero_division=0)
        for metric, figures in zip(METRICS, by_label, strict=False):
            ours = [values["classification", "any", "label", label, metric] for label in labels]
            assert ours == pytest.approx(figures)


def test_by_hand() -> None:
    a, b = "Cardiomegaly", "Edema"
    truth = [frozenset({a}), frozenset({a}), frozenset({b}), frozenset[str]()]
    said = [frozenset({a}), frozenset({b}), frozenset({a, b}), frozenset[str]()]
    measured = Classification("any", modes((a, b, "ILD"), finding=False), truth, said)
    values = measured.values(np.arange(4))
    # a: 1 hit, 1 missed, 1 too many; b: 1 hit, 1 too many; ILD: never.
    assert values["classification", "any", "label", a, "f1"] == pytest.approx(2 / 4)
    assert values["classification", "any", "label", b, "precision"] == pytest.approx(1 / 2)
    assert values["classification", "any", "label", b, "recall"] == 1
    assert values["classification", "any", "label", "ILD", "f1"] == 0
    assert values["classification", "any", "local", "macro", "f1"] == pytest.approx((2 / 4 + 2 / 3 + 0) / 3)
    assert values["classification", "any", "local", "micro", "f1"] == pytest.approx(4 / 7)


def test_a_label_that_a_draw_misses_is_left_out_of_its_average() -> None:
    a, b = "Cardiomegaly", "Edema"
    named = [frozenset({a}), frozenset({b})]
    values = Classification("any", modes((a, b), finding=False), named, named).values(np.array([0, 0]))
    assert values["classification", "any", "local", "macro", "f1"] == 1
    assert np.isnan(values["classification", "any", "label", b, "f1"])


def test_finding_is_a_diagnosis_of_the_published_modes_only() -> None:
    assert len(modes(LABELS, finding=True)["diagnoses"]) == 7
    assert len(modes(LABELS, finding=True)["combined"]) == 29
    assert len(modes(LABELS, finding=False)["combined"]) == 28
    assert FINDING not in modes(LOCAL_LABELS, finding=True)["combined"]
    assert with_finding({"COPD"}) == {"COPD", FINDING}
    assert with_finding({NO_FINDING}) == {NO_FINDING}
    assert with_finding(set()) == {FINDING}


def test_finding_and_no_finding_are_recalled_apart() -> None:
    truth = [frozenset({NO_FINDING})] * 4 + [frozenset({"COPD"})] * 3
    said = [frozenset({NO_FINDING})] * 3 + [frozenset({"COPD"})] * 2 + [frozenset({NO_FINDING})] * 2
    values = normality(truth, said).values(np.arange(7))
    assert values == {("recall", NO_FINDING): 3 / 4, ("recall", FINDING): pytest.approx(1 / 3)}
