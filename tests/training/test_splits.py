"""The validation split: by patient, for good."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.datasets.example import Example, Split
from training.datasets.problems import Place
from training.splits import is_held_back, split_of


def image(image_id: str, patient: str, split: Split | None = None) -> Example:
    """An example of which only the patient and the makers' split matter."""
    place = Place(Path("a.csv"), 2)
    return Example("nih", image_id, None, patient, split, (), {}, frozenset(), place)


patients = st.text(min_size=1, max_size=12)
images = st.lists(st.tuples(st.uuids().map(str), patients), max_size=40, unique_by=lambda pair: pair[0])
shares = st.floats(0, 1)


@given(images, shares)
def test_no_patient_is_on_both_sides(listed: list[tuple[str, str]], share: float) -> None:
    sides: dict[str, set[str]] = {}
    for image_id, patient in listed:
        sides.setdefault(patient, set()).add(split_of(image(image_id, patient), share=share))
    assert all(len(side) == 1 for side in sides.values())


@given(images, images, shares)
def test_more_images_move_none(
    early: list[tuple[str, str]], late: list[tuple[str, str]], share: float
) -> None:
    def sides(listed: list[tuple[str, str]]) -> dict[tuple[str, str], Split]:
        return {(name, patient): split_of(image(name, patient), share=share) for name, patient in listed}

    before = sides(early)
    after = sides([*late, *early])
    assert {pair: after[pair] for pair in before} == before


@given(patients, shares, shares)
def test_a_larger_share_holds_back_the_same_patients_and_more(patient: str, one: float, other: float) -> None:
    if is_held_back(patient, min(one, other)):
        assert is_held_back(patient, max(one, other))


@given(patients)
def test_a_share_of_nothing_and_of_all(patient: str) -> None:
    assert not is_held_back(patient, 0)
    assert is_held_back(patient, 1)


@given(patients, shares)
def test_the_makers_test_and_validation_stay(patient: str, share: float) -> None:
    assert split_of(image("a", patient, "test"), share=share) == "test"
    assert split_of(image("a", patient, "validation"), share=share) == "validation"
    assert split_of(image("a", patient, "train"), share=share) == split_of(image("a", patient), share=share)


@pytest.mark.parametrize("salt", ["", "second"])
def test_about_the_share_that_was_asked_for_is_held_back(salt: str) -> None:
    held = sum(is_held_back(str(number), 0.1, salt) for number in range(10_000))
    # The standard deviation of 10,000 draws is 30
    assert abs(held - 1000) < 150


def test_another_salt_draws_others() -> None:
    drawn = [
        {number for number in range(1000) if is_held_back(str(number), 0.5, salt)} for salt in ("", "second")
    ]
    assert 150 < len(drawn[0] & drawn[1]) < 350


def test_the_image_that_two_datasets_share_is_on_one_side() -> None:
    for number in range(100):
        vinbigdata = image(f"{number}", f"{number}", "train")
        assert split_of(vinbigdata) == split_of(replace(vinbigdata, dataset="vindr-cxr"))
