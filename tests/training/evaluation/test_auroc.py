"""AUROC against scikit-learn, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from litegpt.vocabulary import LABELS
from training.evaluation.auroc import Auroc
from training.evaluation.classification import table


@pytest.mark.parametrize("decimals", [1, 9], ids=["with ties", "without"])
def test_it_is_that_of_scikit_learn(decimals: int) -> None:
    rng = np.random.default_rng(decimals)
    truth = [frozenset(np.array(LABELS)[rng.random(len(LABELS)) < 0.3].tolist()) for _ in range(40)]
    scores = [dict(zip(LABELS, rng.random(len(LABELS)).round(decimals), strict=True)) for _ in range(40)]
    values = Auroc(LABELS, truth, scores).values(np.arange(40))
    rows = np.array([list(one.values()) for one in scores])
    expected = roc_auc_score(table(truth, LABELS), rows, average=None)
    assert [values["auroc", "label", label] for label in LABELS] == pytest.approx(expected)
    assert values["auroc", "combined"] == pytest.approx(expected.mean())
    assert values["auroc", "local"] == pytest.approx(expected[:22].mean())
    assert values["auroc", "diagnoses"] == pytest.approx(expected[22:].mean())


def test_by_hand() -> None:
    labels = ("Edema", "COPD", "Pneumonia")
    truth = [frozenset({"Edema"}), frozenset({"Edema"}), frozenset[str](), frozenset[str]()]
    scores = [{"Edema": score, "COPD": 0.5, "Pneumonia": 0.5} for score in (0.9, 0.4, 0.4, 0.1)]
    values = Auroc(labels, truth, scores).values(np.arange(4))
    # Of four pairs three are in order and one is a tie.
    assert values["auroc", "label", "Edema"] == pytest.approx(3.5 / 4)
    assert np.isnan(values["auroc", "label", "COPD"])
    assert values["auroc", "combined"] == pytest.approx(3.5 / 4)
    assert np.isnan(values["auroc", "diagnoses"])


def test_images_without_scores_are_left_out() -> None:
    truth = [frozenset({"Edema"}), frozenset[str](), frozenset({"Edema"})]
    measured = Auroc(("Edema",), truth, [{"Edema": 0.9}, {"Edema": 0.1}, {}])
    assert measured.values(np.arange(3))["auroc", "label", "Edema"] == 1
    assert np.isnan(measured.values(np.array([2, 2]))["auroc", "label", "Edema"])
