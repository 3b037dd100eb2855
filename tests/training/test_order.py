"""The order of batches: whose images, in which epoch, at which step, with how much padding."""

from __future__ import annotations

import re
from collections import Counter
from itertools import islice, pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from litegpt.answers import write_findings
from litegpt.tokenizer import phantom_tokenizer
from training.errors import TrainingError
from training.order import BatchOrder, balanced_weights, padding_waste
from training.phantom.radiograph import SIDE, phantoms


@pytest.fixture(scope="module")
def answers() -> list[str]:
    """Of 2,000 images: those of 400 phantoms five times, as drawing them takes the time."""
    drawn = [phantom.findings for phantom in islice(phantoms(5), 400)]
    grids = [[(one.label, one.box.to_grid(SIDE, SIDE)) for one in findings] for findings in drawn]
    return [write_findings(findings) for findings in grids] * 5


sets = st.lists(st.integers(1, 120), min_size=1, max_size=80)
sizes = st.integers(1, 9)


@given(sets, sizes, st.integers(1, 4), st.integers(0, 2**32), st.integers(0, 20))
def test_all_ranks_together_see_every_image_and_fill_up_with_few(
    lengths: list[int], size: int, world: int, seed: int, epoch: int
) -> None:
    ranks = [BatchOrder(lengths, size, seed, world_size=world, rank=rank) for rank in range(world)]
    batches = [order.epoch(epoch) for order in ranks]
    assert {len(each) for each in batches} == {ranks[0].batches_per_epoch}
    assert {len(batch) for each in batches for batch in each} == {size}
    seen = Counter(image for each in batches for batch in each for image in batch)
    assert set(seen) == set(range(len(lengths)))
    assert max(seen.values()) - min(seen.values()) <= 1
    assert 0 <= seen.total() - len(lengths) < size * world


@given(st.integers(1, 5), sizes, st.integers(1, 4), st.integers(0, 1000))
def test_ranks_are_disjoint_where_nothing_is_filled_up(steps: int, size: int, world: int, seed: int) -> None:
    lengths = [1 + number % 7 for number in range(steps * size * world)]
    ranks = [
        [
            image
            for batch in BatchOrder(lengths, size, seed, world_size=world, rank=rank).epoch(3)
            for image in batch
        ]
        for rank in range(world)
    ]
    assert sorted(image for rank in ranks for image in rank) == list(range(len(lengths)))


@given(sets, sizes, st.integers(0, 1000), st.integers(0, 50), st.booleans())
def test_any_step_can_be_asked_for_first(
    lengths: list[int], size: int, seed: int, step: int, weighted: bool
) -> None:
    def order() -> BatchOrder:
        weights: Any = lengths if weighted else None
        return BatchOrder(lengths, size, seed, weights=weights)

    gone_through = order()
    sequence = list(islice(gone_through.batches(), step + 3))
    assert order().batch(step) == sequence[step]
    assert list(islice(order().batches(step), 3)) == sequence[step:]
    per_epoch = gone_through.batches_per_epoch
    assert sequence[:per_epoch] == order().epoch(0)[: len(sequence)]


@pytest.mark.parametrize(("size", "world"), [(4, 1), (16, 1), (64, 1), (4, 4), (16, 4)])
def test_padding_wastes_less_than_a_tenth(answers: list[str], size: int, world: int) -> None:
    tokenizer = phantom_tokenizer()
    numbers_as_tokens = [len(tokenizer.encode(text, add_special_tokens=False)) + 1 for text in answers]
    # As Llama-2's tokenizer: a token a digit and a sign, several a word
    numbers_as_digits = [len(re.findall(r"\d|[<>{}(),./]|[A-Za-z]{1,4}", text)) + 1 for text in answers]
    for lengths in (numbers_as_tokens, numbers_as_digits):
        order = BatchOrder(lengths, size, 0, world_size=world)
        bucketed = [padding_waste(order.epoch(epoch), lengths) for epoch in range(3)]
        shuffled = BatchOrder(None, size, 0, images=len(lengths)).epoch(0)
        assert sum(bucketed) / len(bucketed) < 0.10
        assert padding_waste(shuffled, lengths) > 0.30


def test_epochs_have_other_batches_also_of_few_images(answers: list[str]) -> None:
    for count in (64, len(answers)):
        order = BatchOrder([len(text) for text in answers[:count]], 8, 0)
        first, second = ({frozenset(batch) for batch in order.epoch(epoch)} for epoch in (0, 1))
        assert len(first & second) <= len(first) // 10


def test_batches_do_not_come_by_length() -> None:
    order = BatchOrder(list(range(4000)), 4, 0)
    means = [sum(batch) for batch in order.epoch(0)]
    rises = sum(after > before for before, after in pairwise(means))
    assert 400 < rises < 600


def test_waste_by_hand() -> None:
    lengths = [1, 3, 4, 4]
    assert padding_waste([[0, 1], [2, 3]], lengths) == pytest.approx(2 / 14)
    assert padding_waste([[2, 3]], lengths) == 0


def test_balanced_weights_by_hand() -> None:
    label_sets = [{"common"}, {"common", "rare"}, {"common"}, set(), frozenset()]
    # One over the images of the rarest label: 1/3, 1/1, 1/3, 1/2, 1/2; their mean is 8/15
    expected = [value * 15 / 8 for value in (1 / 3, 1, 1 / 3, 1 / 2, 1 / 2)]
    assert balanced_weights(label_sets) == pytest.approx(expected)
    assert balanced_weights([]) == []


def test_weights_decide_how_often_an_image_is_drawn() -> None:
    weights = [0.0, 1.0, 3.0]
    order = BatchOrder([5, 9, 2], 4, 0, weights=weights)
    drawn = Counter(image for batch in islice(order.batches(), 4000) for image in batch)
    assert drawn[0] == 0
    # 16,000 draws of 1/4: standard deviation 55
    assert abs(drawn[1] - 4000) < 5 * 55


def test_images_of_a_balanced_label_come_as_often_as_others() -> None:
    label_sets = [{"rare"} if number < 10 else {"common"} for number in range(1000)]
    order = BatchOrder(None, 10, 0, weights=balanced_weights(label_sets))
    drawn = Counter(image < 10 for batch in order.epoch(0) for image in batch)
    # 1,000 draws of 1/2: standard deviation 16
    assert abs(drawn[True] - 500) < 5 * 16


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"lengths": None}, "nobody knows how many images"),
        ({"lengths": []}, "of 0 images"),
        ({"lengths": [1, 2], "weights": [1.0]}, "1 or 2 images"),
        ({"lengths": [1], "weights": [float("nan")]}, "weights of images"),
        ({"lengths": [1], "weights": [0.0]}, "weights of images"),
        ({"lengths": [1], "rank": 1}, "rank 1 is none of 1"),
        ({"lengths": [1], "seed": -1}, "seed -1"),
        ({"lengths": [1], "batch_size": 0}, "batches of 0"),
    ],
)
def test_what_makes_no_batches_is_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(TrainingError, match=words):
        BatchOrder(**{"batch_size": 2, "seed": 0, **arguments})
