"""Measuring on phantoms."""

from __future__ import annotations

import numpy as np

from litegpt.findings import Finding, Reading
from litegpt.vocabulary import DIAGNOSES
from training.evaluation.phantoms import drawn, evaluation, guessing
from training.phantom.choice import DRAWN_LABELS
from training.phantom.radiograph import Phantom, phantom


def some_phantoms(count: int) -> list[Phantom]:
    return [phantom(np.random.default_rng(seed)) for seed in range(count)]


def repeating(one: Phantom) -> Reading:
    findings = [Finding(finding.label, 0.9, finding.box) for finding in one.findings]
    return Reading((*findings, *(Finding(diagnosis, 0.9) for diagnosis in one.diagnoses)), malformed=1)


def test_a_reading_that_repeats_what_was_drawn_is_perfect() -> None:
    results = [(one, repeating(one)) for one in some_phantoms(150)]  # so many that each label is among them
    measures = evaluation(results, drawn_labels=DRAWN_LABELS)
    assert measures.value("classification", "exact", "local", "macro", "f1") == 1
    assert measures.value("classification", "published", "combined", "micro", "f1") == 1
    for limit in ("0.3", "0.5"):
        assert measures.value("accuracy", "published", limit) == 1
        assert measures.value("accuracy", "plain", limit) == measures.value("box precision", limit) == 1
    assert list(measures.support) == [*DRAWN_LABELS, *DIAGNOSES]


def test_guessing_gives_each_phantom_the_truth_of_the_next() -> None:
    some = some_phantoms(12)
    guessed = guessing(some)
    turned = evaluation(list(zip(some, map(repeating, [*some[1:], *some[:1]]), strict=True)))
    assert guessed.images == 12
    for path in (("accuracy", "plain", "0.3"), ("classification", "exact", "local", "micro", "f1")):
        assert guessed.value(*path) == turned.value(*path)


def test_what_was_drawn_is_a_statement() -> None:
    one = next(one for one in some_phantoms(20) if one.findings)
    assert drawn(one).labels == {finding.label for finding in one.findings}
    assert drawn(one).diagnoses == set(one.diagnoses)
