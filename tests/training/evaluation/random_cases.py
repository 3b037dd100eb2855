"""Test sets at random: truths, and readings that are right about some of them."""

from __future__ import annotations

import numpy as np

from litegpt.boxes import Box
from litegpt.findings import Finding, Reading
from litegpt.vocabulary import DIAGNOSES, LABELS, LOCAL_LABELS, NO_FINDING
from training.evaluation.statements import Case, Statement

COLUMNS, ROWS = 320, 200
FEW = LOCAL_LABELS[:4]
"""The local labels that occur: few, so that each occurs often."""


def random_cases(rng: np.random.Generator, images: int) -> tuple[list[Case], list[Reading]]:
    """As many images, their readings with scores that are all different."""
    cases = [Case(random_statement(rng), COLUMNS, ROWS) for _ in range(images)]
    return cases, [random_reading(rng, case.truth) for case in cases]


def random_statement(rng: np.random.Generator) -> Statement:
    if rng.random() < 0.3:
        return Statement((), frozenset({NO_FINDING}))
    boxes = tuple((str(label), random_box(rng)) for label in rng.choice(FEW, rng.integers(1, 4)))
    return Statement(boxes, frozenset(map(str, rng.choice(DIAGNOSES[:-1], rng.integers(1, 3)))))


def random_box(rng: np.random.Generator) -> Box:
    left, top = rng.uniform(0, COLUMNS * 0.6), rng.uniform(0, ROWS * 0.6)
    return Box(left, top, left + rng.uniform(10, COLUMNS * 0.4), top + rng.uniform(10, ROWS * 0.4))


def near(rng: np.random.Generator, box: Box) -> Box:
    """A box that overlaps, more or less."""
    left, top = max(0.0, box.x_min + rng.normal(0, 12)), max(0.0, box.y_min + rng.normal(0, 12))
    return Box(left, top, left + box.x_max - box.x_min, top + box.y_max - box.y_min)


def random_reading(rng: np.random.Generator, truth: Statement) -> Reading:
    """Says some of what is true, some that is not, and has more boxes in mind."""
    other = random_statement(rng)
    placed = [(label, near(rng, box)) for label, box in truth.boxes if rng.random() < 0.7]
    placed += [one for one in other.boxes if rng.random() < 0.3]
    findings = [Finding(label, rng.random(), box) for label, box in placed]
    said = truth.diagnoses if rng.random() < 0.6 else other.diagnoses
    findings += [Finding(diagnosis, rng.random()) for diagnosis in sorted(said)]
    candidates = tuple(
        Finding(str(label), rng.random() * 0.3, random_box(rng), reported=False)
        for label in rng.choice(FEW, rng.integers(0, 3))
    )
    scores = {label: float(rng.random()) for label in LABELS}
    return Reading(tuple(findings), label_scores=scores, candidates=candidates)


def perfect_reading(truth: Statement) -> Reading:
    """Says what is true, with certainty."""
    findings = [Finding(label, 1.0, box) for label, box in truth.boxes]
    findings += [Finding(diagnosis, 1.0) for diagnosis in sorted(truth.diagnoses)]
    scores = {label: float(label in truth.named) for label in LABELS}
    return Reading(tuple(findings), label_scores=scores)
