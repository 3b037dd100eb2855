"""Who is measured when, and what is made of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from benchmarks.contenders import Answers, Tokens
from benchmarks.random_comparison import largest_that_fits
from benchmarks.rounds import Entry, Rounds, Sample, measured_images
from litegpt.phantoms import phantom_files
from litegpt.radiograph import Radiograph
from litegpt.stopwatch import Stopwatch


class Recorder:
    """Notes that it was asked."""

    def __init__(self, name: str, asked: list[tuple[str, int]]) -> None:
        self.name, self.batch, self.stopwatch = name, 2, Stopwatch()
        self.fits = True
        self._asked = asked

    def read(self, radiographs: Sequence[Radiograph]) -> list[Answers]:
        self._asked.append((self.name, len(radiographs)))
        with self.stopwatch.stage("generate"):
            return [{"identify": f"{index}"} for index in range(len(radiographs))]

    def tokens(self, answers: Sequence[Answers]) -> Tokens:
        return Tokens(10 * len(answers), 4 * len(answers))


RADIOGRAPH = Radiograph(np.zeros((2, 2), np.uint8))


def two() -> tuple[Rounds, list[tuple[str, int]]]:
    asked: list[tuple[str, int]] = []
    rival = Entry(Recorder("B", asked), [RADIOGRAPH] * 4)
    entries = [Entry(Recorder("A", asked), [RADIOGRAPH] * 4, rival), rival]
    return Rounds(entries, phantom_files()[:1], "cpu"), asked


def test_everybody_is_measured_in_turn_and_the_turn_is_turned_round() -> None:
    rounds, asked = two()
    assert len(list(rounds.run(3))) == 6
    assert asked == [(name, 4) for name in "ABBAAB"]
    assert [len(entry.samples) for entry in rounds.entries] == [3, 3]
    assert len(rounds.file_seconds) == len(rounds.load) == 3
    assert all(0 <= sample.stages["generate"] <= sample.seconds for sample in rounds.entries[0].samples)


def test_the_warm_up_is_one_batch_and_does_not_count() -> None:
    rounds, asked = two()
    list(rounds.warm_up())
    assert asked == [("A", 2), ("B", 2)]
    assert rounds.measured == []


def sample(seconds: float) -> Sample:
    return Sample(seconds, {}, 0, Tokens(40, 16))


def test_rates_and_ratios_by_hand() -> None:
    rounds, _ = two()
    ours, rival = rounds.entries
    ours.samples = [sample(2), sample(1), sample(4)]
    rival.samples = [sample(4), sample(4)]  # the third was interrupted
    assert ours.images_per_second == [2, 4, 1]
    assert ours.tokens_per_second == [20, 40, 10]
    assert ours.ratios == [2, 4]
    assert rival.ratios == []


def test_answers_are_compared_image_by_image() -> None:
    rounds, _ = two()
    ours, rival = rounds.entries
    ours.answers = [{"vqa": "a"}, {"vqa": "b"}, {"vqa": "c"}]
    rival.answers = [{"vqa": "a"}, {"vqa": "x"}, {"vqa": "c"}]
    assert ours.alike == (2, 3)


@pytest.mark.parametrize(
    ("batch", "available", "images"), [(1, 128, 16), (8, 128, 128), (32, 100, 96), (4, 2, 4), (200, 128, 200)]
)
def test_a_measurement_has_whole_batches(batch: int, available: int, images: int) -> None:
    assert measured_images(batch, available) == images


@pytest.mark.parametrize(("planned", "found"), [(100, 248), (400, 251), (300, 300), (1024, 256)])
def test_the_largest_batch_is_looked_for_from_the_planned_one(planned: int, found: int) -> None:
    # 100, 126, 158, 198, 248, but not 311; 400 does not fit, so 200, 251, but not 314.
    assert largest_that_fits(planned, lambda batch: batch <= 300) == found
