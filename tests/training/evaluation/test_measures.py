"""What holds for all measures together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from litegpt.findings import Finding, Reading
from litegpt.prompts import IDENTIFY, VQA
from litegpt.vocabulary import DIAGNOSES, LABELS, LOCAL_LABELS, NO_FINDING
from tests.training.evaluation.random_cases import FEW, perfect_reading, random_box, random_cases
from training.errors import TrainingError
from training.evaluation.classification import FINDING
from training.evaluation.measures import Measures, evaluate, measures_of
from training.evaluation.statements import Case, Statement, answered, stated

SEEDS = st.integers(0, 2**32 - 1)
SOME = (*FEW, *DIAGNOSES)
EXPENSIVE = settings(max_examples=15, deadline=None)


def values_of(measures: Measures) -> dict[tuple[str, ...], float]:
    values = ((path, one.value) for path, one in measures.estimates.items())
    return {path: np.nan if value is None else value for path, value in values}


@EXPENSIVE
@given(SEEDS)
def test_the_order_of_the_images_changes_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    cases, readings = random_cases(rng, 8)
    order = rng.permutation(8).tolist()
    shuffled = evaluate([cases[n] for n in order], [readings[n] for n in order], labels=SOME)
    assert values_of(shuffled) == pytest.approx(
        values_of(evaluate(cases, readings, labels=SOME)), nan_ok=True
    )


@EXPENSIVE
@given(SEEDS)
def test_a_draw_is_worth_what_its_images_are_worth_as_a_test_set(seed: int) -> None:
    """So that the bootstrap's shortcuts are right: matches found once, counts summed by image."""
    rng = np.random.default_rng(seed)
    cases, readings = random_cases(rng, 8)
    draw = rng.integers(8, size=8)
    found = _of_draw(cases, readings, draw)
    # Scores all different again: pycocotools puts equal ones in the order of the images.
    anew = evaluate([cases[n] for n in draw], [readings[n] for n in draw], labels=SOME)
    for path, value in values_of(anew).items():
        # CIDEr's rarities are those of the test set, and a label that only the draw lacks is left out.
        if "cider" not in path[-1] and "macro" not in path and not np.isnan(found[path]):
            assert found[path] == pytest.approx(value), path


def _of_draw(cases: list[Case], readings: list[Reading], draw: np.ndarray) -> dict[tuple[str, ...], float]:
    measures, _ = measures_of(cases, readings, SOME)
    return {path: value for measure in measures for path, value in measure.values(draw).items()}


@EXPENSIVE
@given(SEEDS)
def test_a_perfect_reading_scores_1(seed: int) -> None:
    cases, _ = random_cases(np.random.default_rng(seed), 12)
    measures = evaluate(cases, [perfect_reading(case.truth) for case in cases], labels=SOME)
    occurring = set().union(*(case.truth.named for case in cases))
    for path, value in values_of(measures).items():
        if path[0] == "text":
            perfect = 100.0 if "cider" not in path[1] else value
        elif path[0] == "answers":
            perfect = np.nan
        elif "macro" in path or "samples" in path:
            continue  # labels that do not occur and images without local labels count 0
        elif "label" in path and "classification" in path:
            perfect = float(path[3] in occurring or path[3] == FINDING)
        else:
            perfect = 1.0
        assert np.isnan(value) or value == pytest.approx(perfect), path


@EXPENSIVE
@given(SEEDS)
def test_accuracy_never_falls_when_boxes_are_added(seed: int) -> None:
    rng = np.random.default_rng(seed)
    cases, readings = random_cases(rng, 6)
    more = [
        replace(one, findings=(*one.findings, Finding(str(rng.choice(FEW)), 0.5, random_box(rng))))
        for one in readings
    ]
    before, after = (values_of(evaluate(cases, said, labels=SOME)) for said in (readings, more))
    for path in before:
        if path[0] in ("accuracy", "iou") and not np.isnan(before[path]):
            assert after[path] >= before[path] - 1e-12, path


def test_intervals_hold_the_values() -> None:
    cases, readings = random_cases(np.random.default_rng(2), 60)
    measures = evaluate(cases, readings, labels=SOME, resamples=60)
    for path in (
        ("classification", "exact", "combined", "micro", "f1"),
        ("accuracy", "published", "0.3"),
        ("map", "0.5"),
        ("froc", "mean"),
        ("auroc", "combined"),
        ("text", "bleu-4"),
        ("recall", FINDING),
    ):
        one = measures.estimates[path]
        assert one.value is not None and one.low is not None and one.high is not None
        assert one.low < one.value < one.high, path
        assert one.high - one.low < 0.6 * (100 if path[0] == "text" else 1), path


def test_support_and_labels_are_those_measured() -> None:
    cases, readings = random_cases(np.random.default_rng(3), 20)
    measures = evaluate(cases, readings, labels=SOME)
    assert list(measures.support) == list(SOME)
    assert measures.support[NO_FINDING] == sum(NO_FINDING in case.truth.diagnoses for case in cases)
    assert not any(set(path) & (set(LABELS) - set(SOME)) for path in measures.estimates)


def test_a_test_set_of_local_labels_alone_says_nothing_of_finding() -> None:
    cases, readings = random_cases(np.random.default_rng(3), 10)
    measures = evaluate(cases, readings, labels=LOCAL_LABELS)
    assert ("recall", FINDING) not in measures.estimates
    assert measures.value("classification", "exact", "diagnoses", "macro", "f1") is None


def test_finding_is_a_label_of_the_published_rule_alone() -> None:
    cases, readings = random_cases(np.random.default_rng(3), 10)
    estimates = evaluate(cases, readings, labels=SOME).estimates
    assert ("classification", "published", "label", FINDING, "f1") in estimates
    assert ("classification", "exact", "label", FINDING, "f1") not in estimates


def test_without_scores_auroc_is_not_computed_and_the_reason_is_given() -> None:
    cases, readings = random_cases(np.random.default_rng(3), 5)
    measures = evaluate(cases, [replace(one, label_scores={}) for one in readings])
    assert "score for every label" in measures.not_computed["AUROC"]
    with pytest.raises(KeyError):
        measures.value("auroc", "combined")


def test_a_failed_reading_says_nothing_and_is_counted() -> None:
    truth = Statement(((FEW[0], random_box(np.random.default_rng(0))),), frozenset({"COPD"}))
    case = Case(truth, 320, 200)
    said = perfect_reading(truth)
    broken = Reading((), {IDENTIFY: "Local diseases of", VQA: "COPD"}, failure="NaN")
    measures = evaluate([case, case], [said, broken], labels=SOME)
    assert measures.failed == 1
    assert measures.value("accuracy", "published", "0.3") == 0.5
    assert measures.value("classification", "published", "label", "COPD", "recall") == 0.5


def test_the_rate_of_malformed_answers_is_of_the_answers_themselves() -> None:
    case = Case(Statement((), frozenset({NO_FINDING})), 100, 100)
    good = {IDENTIFY: "Local diseases of this chest radiograph are No finding.", VQA: "No finding."}
    bad = {IDENTIFY: "<p>Edema</p> {<1>}, <p>Flu</p> {<1><2><3><4>}", VQA: "No finding."}
    measures = evaluate([case, case], [Reading((), good), Reading((), bad, malformed=2)])
    assert measures.value("answers", "malformed") == 1 / 4
    assert measures.value("answers", "malformed pieces") == 2 / 4


def test_the_text_that_counts_is_the_model_s_own() -> None:
    case = Case(Statement((), frozenset({NO_FINDING})), 100, 100)
    own = {IDENTIFY: "mild", VQA: "No finding."}
    assert answered(Reading((), own), case).identify == "mild"
    assert (
        evaluate([case], [Reading((), own)]).value("classification", "published", "label", "ILD", "f1") == 0
    )
    assert answered(Reading((Finding("COPD", 0.5),)), case).vqa.endswith("are COPD.")


def test_what_is_not_reported_is_not_stated() -> None:
    reading = Reading((Finding("COPD", 0.4, reported=False), Finding("Pneumonia", 0.9)))
    assert stated(reading).diagnoses == {"Pneumonia"}


def test_there_must_be_images_and_a_reading_for_each() -> None:
    with pytest.raises(TrainingError, match="no image"):
        evaluate([], [])
    with pytest.raises(ValueError, match="1 cases, but 0 readings"):
        evaluate([Case(Statement((), frozenset()), 10, 10)], [])
