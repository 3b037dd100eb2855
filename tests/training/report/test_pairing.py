"""Pairs of true and said boxes."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from litegpt.vocabulary import LOCAL_LABELS
from tests.training.evaluation.random_cases import near, random_box
from tests.training.report.conftest import made_up
from training.evaluation.statements import stated
from training.report.confusion import INVENTED, MISSED, OVERLAP, confusion, paired
from training.report.pairing import pairs

LABEL, OTHER = LOCAL_LABELS[:2]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_no_other_pairing_overlaps_more(seed: int) -> None:
    rng = np.random.default_rng(seed)
    true = [(LABEL, random_box(rng)) for _ in range(rng.integers(0, 4))]
    said = [(LABEL, near(rng, box)) for _, box in true] + [(LABEL, random_box(rng))]
    found = pairs(true, said, 0.3)
    assert len({column for column, _ in found.values()}) == len(found)
    for row, (column, overlap) in found.items():
        assert overlap == true[row][1].iou(said[column][1]) > 0.3
    best = 0.0
    for order in permutations(range(len(said)), len(true)):
        overlaps = [box.iou(said[column][1]) for (_, box), column in zip(true, order, strict=True)]
        best = max(best, sum(overlap for overlap in overlaps if overlap > 0.3))
    assert sum(overlap for _, overlap in found.values()) == pytest.approx(best)


def test_a_box_of_another_label_is_a_confusion() -> None:
    rng = np.random.default_rng(0)
    here, there = random_box(rng), random_box(rng)
    assert here.iou(there) <= OVERLAP
    assert paired([(LABEL, here)], [(OTHER, here)]) == [(LABEL, OTHER)]
    assert paired([(LABEL, here)], [(LABEL, there)]) == [(LABEL, MISSED), (INVENTED, LABEL)]
    assert paired([], [(LABEL, there)]) == [(INVENTED, LABEL)]
    assert paired([(LABEL, here)], []) == [(LABEL, MISSED)]
    assert paired([], []) == []


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_every_box_is_counted_once(seed: int) -> None:
    examined = made_up(seed, 12)
    found = confusion(examined, LOCAL_LABELS)
    for row, label in enumerate(found.true[:-1]):
        true = sum(name == label for one in examined for name, _ in one.case.truth.boxes)
        said = sum(name == label for one in examined for name, _ in stated(one.reading).boxes)
        assert found.counts[row].sum() == true
        assert found.counts[:, row].sum() == said
