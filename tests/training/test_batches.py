"""Batches of phantoms: nothing is lost in their windows, and little of them is padding."""

from __future__ import annotations

from itertools import islice

import torch

from litegpt.preprocessing import Preprocessing
from litegpt.tokenizer import phantom_tokenizer
from tests.training.recipes import short
from training.batches import IGNORED, Batch, Teaching, load_batches
from training.course import WINDOW_STEPS
from training.lessons import PhantomLessons
from training.order import BatchOrder
from training.phantom.choice import DRAWN_LABELS

SIZE, IMAGES = 24, 24 * WINDOW_STEPS


def batches(workers: int, window: int) -> list[Batch]:
    lessons = PhantomLessons((0, 5, 1), IMAGES, (Preprocessing(),), drawn_labels=DRAWN_LABELS)
    rows = BatchOrder(None, SIZE, 3, images=IMAGES).batches()
    teaching = Teaching(phantom_tokenizer(), short("grounding"), ())
    made = load_batches(lessons, islice(rows, WINDOW_STEPS), teaching, workers=workers, window=window)
    return list(made)


def padding(made: list[Batch]) -> float:
    answers = [batch.answers["identify"] for batch in made]
    places = sum(answer.numel() for answer in answers)
    return sum(int((answer == IGNORED).sum()) for answer in answers) / places


def test_a_window_keeps_every_lesson_and_wastes_under_a_tenth() -> None:
    by_chance, by_length = batches(0, 1), batches(0, WINDOW_STEPS)
    assert sorted(name for batch in by_length for name in batch.names) == sorted(
        name for batch in by_chance for name in batch.names
    )
    assert [len(batch.names) for batch in by_length] == [SIZE] * WINDOW_STEPS
    assert padding(by_length) < 0.1 < 0.4 < padding(by_chance)
    longest = [batch.answers["identify"].shape[1] for batch in by_length]
    assert longest != sorted(longest)  # not from short to long


def test_another_process_makes_the_same_batches() -> None:
    here, beside = batches(0, WINDOW_STEPS), batches(1, WINDOW_STEPS)
    for one, other in zip(here, beside, strict=True):
        assert one.names == other.names
        assert torch.equal(one.squares[0], other.squares[0])
        assert torch.equal(one.answers["identify"], other.answers["identify"])
