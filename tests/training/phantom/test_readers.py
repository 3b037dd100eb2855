"""The simulated readers: their rates hold, and their global labels follow from what they saw."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

from litegpt.boxes import Box
from litegpt.vocabulary import LOCAL_LABELS
from training.phantom.choice import TWELVE
from training.phantom.radiograph import SIDE, DrawnFinding, Phantom, diagnoses_of, phantoms
from training.phantom.reader_agreement import ReaderAgreement
from training.phantom.readers import (
    IMAGINED,
    LOOK_ALIKES,
    READERS,
    Reader,
    ReadingOfOne,
    SeenFinding,
    read_by_all,
)

PERFECT = Reader("R9", 0, 0, 0, 0, 0, 0, 0)
TIMES = 2000


@pytest.fixture(scope="module")
def many() -> list[Phantom]:
    return list(islice(phantoms(606), 300))


def painted(side: int, brightness: int, label: str = "Consolidation") -> Phantom:
    """A square finding in the middle of a grey picture."""
    pixels = np.full((SIDE, SIDE), 100, np.uint8)
    mask = np.zeros((SIDE, SIDE), bool)
    mask[100 : 100 + side, 100 : 100 + side] = True
    pixels[mask] = brightness
    box = Box(100, 100, 100 + side, 100 + side)
    return Phantom(pixels, (DrawnFinding(label, box, mask),), ("Pneumonia",))


def readings(one: Phantom, reader: Reader, times: int = TIMES) -> list[ReadingOfOne]:
    rng = np.random.default_rng(4)
    return [read_by_all(one, rng, readers=(reader,))[0] for _ in range(times)]


def share_seen(one: Phantom, reader: Reader) -> float:
    return sum(bool(reading.findings) for reading in readings(one, reader)) / TIMES


def test_a_reader_without_faults_says_what_is_drawn(many: list[Phantom]) -> None:
    for one in many[:60]:
        (reading,) = read_by_all(one, np.random.default_rng(1), readers=(PERFECT,))
        assert reading.diagnoses == one.diagnoses
        assert [finding.label for finding in reading.findings] == [f.label for f in one.findings]
        assert [finding.drawn for finding in reading.findings] == list(range(len(one.findings)))
        for seen, drawn in zip(reading.findings, one.findings, strict=True):
            # Half a pixel's unrest remains
            assert np.abs(np.subtract(corners(seen.box), corners(drawn.box))).max() < 3


def corners(box: Box) -> tuple[float, float, float, float]:
    return box.x_min, box.y_min, box.x_max, box.y_max


def test_small_and_faint_findings_are_missed_more_often() -> None:
    plain = replace(PERFECT, misses=0.1)
    assert share_seen(painted(60, 250), plain) == pytest.approx(0.9, abs=0.03)
    small, faint = replace(plain, misses_small=0.5), replace(plain, misses_faint=0.5)
    # exp(-1) of the half is added for a side of 0.09 of the picture, next to nothing for one of a quarter
    assert share_seen(painted(20, 250), small) == pytest.approx(
        0.9 - 0.5 * np.exp(-((20 / 224 / 0.09) ** 2)), abs=0.04
    )
    assert share_seen(painted(60, 250), small) == pytest.approx(0.9, abs=0.03)
    assert share_seen(painted(60, 102), faint) < 0.45
    assert share_seen(painted(60, 250), faint) == pytest.approx(0.9, abs=0.03)


def test_boxes_are_as_far_off_as_said() -> None:
    one, reader = painted(80, 250), replace(PERFECT, box_error=0.05)
    edges = np.array([corners(reading.findings[0].box) for reading in readings(one, reader)])
    assert edges.mean(axis=0) == pytest.approx(corners(one.findings[0].box), abs=0.4)
    assert edges.std(axis=0) == pytest.approx([4.0] * 4, rel=0.1)  # 0.05 of 80 pixels


def test_confusion_and_imagination_come_as_often_as_said() -> None:
    confused = readings(painted(60, 250), replace(PERFECT, confuses=0.2))
    others = [reading for reading in confused if reading.findings[0].label != "Consolidation"]
    assert len(others) / TIMES == pytest.approx(0.2, abs=0.03)
    assert {reading.findings[0].label for reading in others} == set(LOOK_ALIKES["Consolidation"])
    imagined = readings(painted(60, 250), replace(PERFECT, imagines=0.1))
    extra = [reading.findings[-1] for reading in imagined if len(reading.findings) > 1]
    assert len(extra) / TIMES == pytest.approx(0.1, abs=0.02)
    assert all(finding.drawn is None and finding.label in IMAGINED for finding in extra)


def test_copd_is_missed_as_often_as_said() -> None:
    empty = Phantom(np.full((SIDE, SIDE), 100, np.uint8), (), ("COPD",))
    said = [reading.diagnoses for reading in readings(empty, replace(PERFECT, misses_copd=0.25))]
    assert said.count(("No finding",)) / TIMES == pytest.approx(0.25, abs=0.03)
    assert set(said) == {("COPD",), ("No finding",)}


def test_diagnoses_follow_each_reader_s_own_findings(many: list[Phantom]) -> None:
    rng = np.random.default_rng(2)
    for one in many:
        for reading in read_by_all(one, rng):
            boxes = [(finding.label, finding.box) for finding in reading.findings]
            copd = "COPD" in reading.diagnoses
            assert reading.diagnoses == diagnoses_of(boxes, hyperinflated=copd)
            assert not copd or "COPD" in one.diagnoses
            for finding in reading.findings:
                assert finding.box.clipped(SIDE, SIDE) == finding.box


def test_readers_know_only_the_labels_they_are_told() -> None:
    rng = np.random.default_rng(3)
    careless = replace(READERS[2], confuses=1.0, imagines=1.0)
    for one in islice(phantoms(7, drawn_labels=TWELVE), 60):
        (reading,) = read_by_all(one, rng, readers=(careless,), known_labels=TWELVE)
        assert {finding.label for finding in reading.findings} <= set(TWELVE)
    assert {*LOOK_ALIKES, *IMAGINED, *(label for labels in LOOK_ALIKES.values() for label in labels)} <= set(
        LOCAL_LABELS
    )


def test_a_reader_who_knows_nothing_that_is_imagined_imagines_nothing() -> None:
    heart = painted(60, 250, "Cardiomegaly")
    careless = replace(PERFECT, imagines=1.0)
    (reading,) = read_by_all(
        heart, np.random.default_rng(1), readers=(careless,), known_labels=("Cardiomegaly",)
    )
    assert [finding.label for finding in reading.findings] == ["Cardiomegaly"]


def test_three_readers_disagree_and_the_same_chance_gives_the_same_readings(many: list[Phantom]) -> None:
    agreement = ReaderAgreement()
    for number, one in enumerate(many):
        three = read_by_all(one, np.random.default_rng((5, number)))
        assert three == read_by_all(one, np.random.default_rng((5, number)))
        assert [reading.reader for reading in three] == ["R1", "R2", "R3"]
        agreement.add(one, three)
    by_all = agreement.seen_by_all(3)
    assert by_all is not None and 0.65 < by_all < 0.85
    assert agreement.mean_iou is not None and 0.7 < agreement.mean_iou < 0.85
    assert "mean IoU" in "\n".join(agreement.lines(3))


def test_agreement_is_counted() -> None:
    one, box, half = painted(20, 250), Box(100, 100, 120, 120), Box(100, 100, 120, 110)
    three = (
        ReadingOfOne("R1", (SeenFinding("Consolidation", box, 0),), ("Pneumonia",)),
        ReadingOfOne("R2", (SeenFinding("Lung Opacity", half, 0),), ("Other disease",)),
        ReadingOfOne("R3", (SeenFinding("Calcification", box, None),), ("Other disease",)),
    )
    agreement = ReaderAgreement()
    agreement.add(one, three)
    assert agreement.mean_iou == 0.5
    assert (agreement.seen, agreement.confused, agreement.imagined) == (3, 1, 1)
    assert agreement.seen_by == {2: 1} and agreement.seen_by_all(3) == 0
    assert agreement.lines(3)[1] == "  seen by 3 0%, by 2 100%, by 1 0%, by 0 0%"
