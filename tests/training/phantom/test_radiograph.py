"""The generator of phantoms: exact boxes, seeds that repeat, labels that follow from what is drawn."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import numpy as np
import pytest

from litegpt.vocabulary import DIAGNOSES, LOCAL_LABELS, NO_FINDING
from training.phantom.choice import DRAWN_LABELS
from training.phantom.radiograph import SIDE, Phantom, phantom, phantoms


@pytest.fixture(scope="module")
def many() -> list[Phantom]:
    return list(islice(phantoms(4242), 400))


def test_boxes_are_the_smallest_around_their_masks(many: list[Phantom]) -> None:
    for one in many:
        for finding in one.findings:
            rows, columns = np.nonzero(finding.mask)
            box = finding.box
            assert (box.x_min, box.x_max) == (columns.min(), columns.max() + 1)
            assert (box.y_min, box.y_max) == (rows.min(), rows.max() + 1)
            assert box.clipped(SIDE, SIDE) == box


@pytest.mark.parametrize(
    ("label", "difference"),
    [
        ("Consolidation", 20),
        ("Nodule/Mass", 20),
        ("Atelectasis", 20),
        ("Calcification", 20),
        ("Pneumothorax", -5),
    ],
)
def test_a_mask_is_brighter_or_darker_than_its_place_in_the_other_lung(label: str, difference: int) -> None:
    differences = []
    for seed in range(30):
        one = phantom(np.random.default_rng(seed), labels=(label,), hyperinflated=False)
        for finding in one.findings[:1]:
            mirrored = one.pixels[:, ::-1][finding.mask]
            differences.append(one.pixels[finding.mask].mean() - mirrored.mean())
    median = float(np.median(differences))
    assert median > difference if difference > 0 else median < difference


@pytest.mark.parametrize("label", DRAWN_LABELS)
def test_every_finding_can_be_drawn_alone(label: str) -> None:
    drawn = [phantom(np.random.default_rng(seed), labels=(label,)) for seed in range(20)]
    with_it = [one for one in drawn if one.findings]
    assert len(with_it) >= 17
    assert {finding.label for one in with_it for finding in one.findings} == {label}


def test_the_same_seed_draws_the_same_phantoms(many: list[Phantom]) -> None:
    for one, other in zip(many[:20], phantoms(4242), strict=False):
        assert np.array_equal(one.pixels, other.pixels)
        assert [(f.label, f.box) for f in one.findings] == [(f.label, f.box) for f in other.findings]
        assert one.diagnoses == other.diagnoses


def test_another_seed_draws_others(many: list[Phantom]) -> None:
    assert not np.array_equal(many[0].pixels, next(phantoms(4243)).pixels)
    assert not np.array_equal(many[0].pixels, many[1].pixels)


def test_a_third_has_no_finding_and_every_label_occurs(many: list[Phantom]) -> None:
    diagnoses = Counter(diagnosis for one in many for diagnosis in one.diagnoses)
    labels = Counter(finding.label for one in many for finding in one.findings)
    assert 0.25 < diagnoses[NO_FINDING] / len(many) < 0.45
    assert set(diagnoses) == set(DIAGNOSES)
    assert set(labels) == set(DRAWN_LABELS) <= set(LOCAL_LABELS)
    assert len(DRAWN_LABELS) == 12


def test_diagnoses_follow_from_what_is_drawn(many: list[Phantom]) -> None:
    for one in many:
        labels = {finding.label for finding in one.findings}
        assert ("Pneumonia" in one.diagnoses) == ("Consolidation" in labels)
        assert ("Tuberculosis" in one.diagnoses) == ("Lung cavity" in labels)
        if "Lung tumor" in one.diagnoses:
            assert "Nodule/Mass" in labels
        if NO_FINDING in one.diagnoses:
            assert one.diagnoses == (NO_FINDING,) and not labels
        assert list(one.diagnoses) == sorted(one.diagnoses, key=DIAGNOSES.index)


def test_hyperinflation_is_copd() -> None:
    assert phantom(np.random.default_rng(1), labels=(), hyperinflated=True).diagnoses == ("COPD",)
    assert phantom(np.random.default_rng(1), labels=(), hyperinflated=False).diagnoses == (NO_FINDING,)


def test_findings_are_in_the_vocabulary_s_order_then_top_to_bottom(many: list[Phantom]) -> None:
    for one in many:
        order = [(LOCAL_LABELS.index(f.label), f.box.y_min, f.box.x_min) for f in one.findings]
        assert order == sorted(order)
