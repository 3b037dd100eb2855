"""Which images are shown, and what is written on them."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from litegpt.boxes import Box
from litegpt.findings import Finding, Reading
from litegpt.vocabulary import LOCAL_LABELS, NO_FINDING
from tests.training.report.conftest import made_up
from training.evaluation.journal import Examined, read_readings
from training.evaluation.statements import Case, Statement
from training.report.contact_sheet import card, contact_sheet, judge
from training.report.tags import Area, places

ONE, OTHER = LOCAL_LABELS[:2]
HERE, THERE = Box(10, 10, 40, 40), Box(60, 60, 90, 90)


def examined(truth: Statement, *findings: Finding) -> Examined:
    return Examined("a", None, None, Case(truth, 100, 100), Reading(findings))


def test_an_image_is_judged_by_its_boxes_and_its_diagnoses() -> None:
    truth = Statement(((ONE, HERE), (OTHER, THERE)), frozenset({"COPD"}))
    found = judge(examined(truth, Finding(ONE, 0.9, HERE), Finding(ONE, 0.8, THERE), Finding("COPD", 0.7)))
    assert (found.right, found.true, found.said, found.missed) == (2, 3, 3, 1)
    assert found.found == {0} and found.overlap == 0.5
    assert found.quality == pytest.approx(2 / 3)
    nothing = judge(examined(Statement((), frozenset())))
    assert nothing.quality == 1 and nothing.missed == 0


def test_a_label_without_a_place_is_right_wherever_it_is_said() -> None:
    truth = Statement((), frozenset(), frozenset({ONE}))
    assert judge(examined(truth, Finding(ONE, 0.9, HERE))).quality == 1
    assert judge(examined(truth, Finding(OTHER, 0.9, HERE))).quality == 0


def test_the_sheet_does_not_depend_on_the_order_and_shows_no_image_twice() -> None:
    some = made_up(3, 60)
    groups = contact_sheet(some)
    assert [group.title for group in groups] == ["Worst", "Missed findings", "Typical", "Best"]
    shown = [one.examined.image_id for group in groups for one in group.images]
    assert len(shown) == len(set(shown)) == 24
    assert contact_sheet(some[::-1]) == groups
    worst, missed, _, best = groups
    qualities = sorted(judge(one).quality for one in some)
    assert [one.quality for one in worst.images] == qualities[:6]
    assert all(one.missed for one in missed.images)
    assert min(one.quality for one in best.images) >= max(one.quality for one in worst.images)


def test_images_that_could_not_be_read_are_not_shown() -> None:
    failed = [replace(one, reading=Reading((), failure="no numbers")) for one in made_up(3, 5)]
    assert contact_sheet(failed) == []


def test_true_boxes_are_named_where_they_were_not_found() -> None:
    truth = Statement(((ONE, HERE), (OTHER, THERE)), frozenset({NO_FINDING}))
    below = Finding(OTHER, 0.2, THERE, reported=False)
    shown = card(judge(examined(truth, Finding(ONE, 0.9, HERE), below)), Path())
    assert [(mark.words, mark.is_true) for mark in shown.marks] == [
        ("", True),
        (OTHER, True),
        (f"{ONE} 0.90", False),
    ]
    assert shown.marks[1].area == Area(60, 60, 90, 90)
    assert shown.picture is None
    assert shown.true == (ONE, OTHER, NO_FINDING)
    assert shown.said == (f"{ONE} 0.90",)


def test_words_stay_in_the_picture_and_apart() -> None:
    rng = np.random.default_rng(5)
    for _ in range(50):
        left, top = rng.uniform(0, 70, 2)
        boxes = [Area(left, top, left + 12, top + 10), Area(left + 14, top + 2, left + 28, top + 14)]
        chosen = places(boxes, ["Nodule/Mass 0.93", "Rib fracture"], 1.0)
        assert len(chosen) == 2
        areas = [
            area_of(css, text) for css, text in zip(chosen, ("Nodule/Mass 0.93", "Rib fracture"), strict=True)
        ]
        for area in areas:
            assert area.outside < 1e-6
        for one, two in combinations(areas, 2):
            assert one.overlap(two) < 1e-6


def area_of(css: str, words: str) -> Area:
    """Where a browser puts these words, on a picture of 350 by 350 pixels."""
    width, height = (6.7 * len(words) + 9) / 3.5, 15 / 3.5
    sides = dict(side.split(":") for side in css.split(";"))
    at = {name: float(value.rstrip("%")) for name, value in sides.items()}
    left = at["left"] if "left" in at else 100 - at["right"] - width
    top = at["top"] if "top" in at else 100 - at["bottom"] - height
    return Area(round(left, 3) + 0.01, round(top, 3) + 0.01, left + width - 0.01, top + height - 0.01)


def test_pictures_are_those_that_were_kept_or_the_images_themselves(evaluated: Path, tmp_path: Path) -> None:
    one = read_readings(evaluated)[0]
    assert (card(judge(one), evaluated).picture or "").startswith("data:image/jpeg;base64,")
    assert card(judge(one), tmp_path).picture is None
    elsewhere = replace(one, picture=None, file=str(evaluated / (one.picture or "")))
    assert card(judge(elsewhere), tmp_path).picture is not None
