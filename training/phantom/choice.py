"""Which findings a phantom gets: chosen at random, evenly, without those that would hide each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from typing import Final

import numpy as np

from litegpt.vocabulary import LOCAL_LABELS
from training.phantom.findings.drawers import DRAWERS

DRAWN_LABELS: Final = tuple(label for label in LOCAL_LABELS if label in DRAWERS)
"""The local findings a phantom can have, in the vocabulary's order: all 22."""

TWELVE: Final = (
    "Aortic enlargement",
    "Atelectasis",
    "Calcification",
    "Cardiomegaly",
    "Consolidation",
    "Lung cavity",
    "Nodule/Mass",
    "Pleural effusion",
    "Pleural thickening",
    "Pneumothorax",
    "Pulmonary fibrosis",
    "Rib fracture",
)
"""The findings that phantoms had first, and that the shipped model knows. Chosen from these, a seed gives the
same phantoms as it did then."""

NEVER_TOGETHER: Final = frozenset(
    frozenset(pair)
    for pair in (
        # Both fill both lungs, or the same parts of them
        ("Edema", "ILD"),
        ("Edema", "Lung Opacity"),
        ("Edema", "Emphysema"),
        ("Edema", "Consolidation"),
        ("Edema", "Infiltration"),
        ("ILD", "Pleural effusion"),
        ("ILD", "Lung Opacity"),
        # Black areas of one lung, of which one would hide the other
        ("Emphysema", "Pneumothorax"),
    )
)
"""Pairs of findings that are not chosen together. None is of two of the twelve, whose phantoms must stay."""


_COST_OF_A_PARTNER: Final = 16
"""A label that is not chosen beside another loses about one of so many of its occurrences for it."""


def choose_findings(rng: np.random.Generator, drawn_labels: Sequence[str]) -> tuple[list[str], bool]:
    """Chooses a phantom's findings and whether it is hyperinflated (COPD).

    36 % get none; 45 % of the others get one, 35 % two, 20 % three. Each label comes about as often as any
    other: those that exclude others are weighted for it.

    Args:
        rng: Where all chance comes from.
        drawn_labels: What to choose from.
    """
    if rng.random() < 0.36:
        return [], rng.random() < 0.08
    count = min(int(rng.choice([1, 2, 3], p=[0.45, 0.35, 0.2])), len(drawn_labels))
    weights = _weights(drawn_labels)
    while True:
        chosen = [str(label) for label in rng.choice(drawn_labels, count, replace=False, p=weights)]
        if not any(frozenset(pair) in NEVER_TOGETHER for pair in combinations(chosen, 2)):
            return chosen, rng.random() < 0.15


def _weights(drawn_labels: Sequence[str]) -> list[float] | None:
    """Each label's part in the choice; None where all have the same, which keeps the draws of the twelve."""
    labels = set(drawn_labels)
    partners = Counter(label for pair in NEVER_TOGETHER if pair <= labels for label in pair)
    if not partners:
        return None
    weights = [1 + partners[label] / _COST_OF_A_PARTNER for label in drawn_labels]
    return [weight / sum(weights) for weight in weights]
