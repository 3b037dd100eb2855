"""The generator of phantoms: exact boxes, seeds that repeat, labels that follow from what is drawn."""

from __future__ import annotations

from collections import Counter
from itertools import combinations, islice

import numpy as np
import pytest

from litegpt.boxes import Box
from litegpt.vocabulary import DIAGNOSES, LOCAL_LABELS, NO_FINDING
from training.phantom.choice import DRAWN_LABELS, NEVER_TOGETHER
from training.phantom.radiograph import (
    SIDE,
    Phantom,
    chosen_labels,
    diagnoses_of,
    numbered_phantom,
    phantom,
    phantoms,
)


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
    drawn = [phantom(np.random.default_rng(seed), labels=(label,)) for seed in range(12)]
    with_it = [one for one in drawn if one.findings]
    assert len(with_it) == len(drawn)
    assert {finding.label for one in with_it for finding in one.findings} == {label}


@pytest.mark.parametrize("label", DRAWN_LABELS)
def test_a_box_s_pixels_differ_from_those_of_the_same_chest_without_the_finding(label: str) -> None:
    for seed in range(4):
        one, without = (phantom(np.random.default_rng(seed), labels=labels) for labels in ((label,), ()))
        change = np.abs(one.pixels.astype(int) - without.pixels)
        for finding in one.findings:
            box = finding.box
            rows, columns = slice(int(box.y_min), int(box.y_max)), slice(int(box.x_min), int(box.x_max))
            assert change[rows, columns].max() > 40  # noise alone stays below: its deviation is about 5
            assert (change[rows, columns] > 12).mean() > 0.1


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
    assert set(labels) == set(DRAWN_LABELS) == set(LOCAL_LABELS)


def test_diagnoses_follow_from_what_is_drawn(many: list[Phantom]) -> None:
    for one in many:
        labels = {finding.label for finding in one.findings}
        assert ("Pneumonia" in one.diagnoses) == bool({"Consolidation", "Infiltration"} & labels)
        assert ("Tuberculosis" in one.diagnoses) == ("Lung cavity" in labels)
        if "Lung tumor" in one.diagnoses:
            assert "Nodule/Mass" in labels
        if NO_FINDING in one.diagnoses:
            assert one.diagnoses == (NO_FINDING,) and not labels
        assert list(one.diagnoses) == sorted(one.diagnoses, key=DIAGNOSES.index)


NODULE, MASS = Box(10, 10, 33, 33), Box(10, 10, 34, 34)  # 23 and 24 pixels wide; a tumour from 23.52
PLACE = Box(40, 40, 80, 90)


@pytest.mark.parametrize(
    ("findings", "hyperinflated", "diagnoses"),
    [
        ([], False, ["No finding"]),
        ([], True, ["COPD"]),
        ([("Emphysema", PLACE)], False, ["Other disease"]),
        ([("Emphysema", PLACE)], True, ["COPD"]),
        ([("Infiltration", PLACE)], False, ["Pneumonia"]),
        ([("Consolidation", PLACE), ("Infiltration", PLACE)], False, ["Pneumonia"]),
        ([("Lung Opacity", PLACE)], False, ["Other disease"]),
        ([("Nodule/Mass", NODULE)], False, ["Other disease"]),
        ([("Nodule/Mass", NODULE), ("Nodule/Mass", MASS)], False, ["Lung tumor"]),
        ([("Lung cyst", MASS)], False, ["Other disease"]),
        (
            [("Lung cavity", PLACE), ("Nodule/Mass", MASS), ("Infiltration", PLACE)],
            True,
            ["COPD", "Lung tumor", "Pneumonia", "Tuberculosis"],
        ),
    ],
)
def test_each_diagnosis_has_its_rule(
    findings: list[tuple[str, Box]], hyperinflated: bool, diagnoses: list[str]
) -> None:
    assert list(diagnoses_of(findings, hyperinflated=hyperinflated)) == diagnoses


def test_any_phantom_of_a_set_can_be_drawn_without_those_before_it() -> None:
    one = numbered_phantom((3, 1), 17)
    again = phantom(np.random.default_rng((3, 1, 17)))
    assert np.array_equal(one.pixels, again.pixels) and one.diagnoses == again.diagnoses
    assert not np.array_equal(one.pixels, numbered_phantom((3, 1), 18).pixels)
    chosen = chosen_labels((3, 1), 17)
    assert {finding.label for finding in one.findings} <= set(chosen)
    few = ("Edema", "Cardiomegaly")
    drawn = [numbered_phantom((3, 1), number, drawn_labels=few) for number in range(40)]
    assert {finding.label for each in drawn for finding in each.findings} == set(few)


def test_labels_are_chosen_evenly_and_nearly_always_find_room() -> None:
    chosen = [chosen_labels((8,), number) for number in range(20_000)]
    counts = Counter(label for labels in chosen for label in labels)
    expected = sum(counts.values()) / len(DRAWN_LABELS)
    for label in DRAWN_LABELS:  # a standard deviation is about 3 %: this holds for any seed
        assert abs(counts[label] / expected - 1) < 0.15, label
    for labels in chosen:
        assert not any(frozenset(pair) in NEVER_TOGETHER for pair in combinations(labels, 2))
    placed = sum(
        len({finding.label for finding in numbered_phantom((8,), number).findings}) for number in range(300)
    )
    assert placed >= 0.97 * sum(len(labels) for labels in chosen[:300])


def test_a_label_that_nobody_can_draw_is_refused() -> None:
    with pytest.raises(ValueError, match="no local finding: Oedema"):
        phantom(np.random.default_rng(1), labels=("Oedema",))


def test_hyperinflation_is_copd() -> None:
    assert phantom(np.random.default_rng(1), labels=(), hyperinflated=True).diagnoses == ("COPD",)
    assert phantom(np.random.default_rng(1), labels=(), hyperinflated=False).diagnoses == (NO_FINDING,)


def test_findings_are_in_the_vocabulary_s_order_then_top_to_bottom(many: list[Phantom]) -> None:
    for one in many:
        order = [(LOCAL_LABELS.index(f.label), f.box.y_min, f.box.x_min) for f in one.findings]
        assert order == sorted(order)
