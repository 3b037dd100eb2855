"""The limit against figures worked out by hand, and against those that the goals were set with."""

from __future__ import annotations

from itertools import product

import pytest

from benchmarks.machine import DATA_SHEETS
from benchmarks.roofline import (
    ATTAINABLE_BANDWIDTH,
    ATTAINABLE_FLOPS,
    GOAL_SEQUENCES,
    LLAMA_2_7B,
    LanguageModelCost,
    Peak,
    limit_as_published,
    limit_as_we_do,
)

H200 = DATA_SHEETS["NVIDIA H200"]

SMALL = LanguageModelCost(body=900, head=100, parameter_bytes=2, cached_bytes=10)


def test_the_published_way_by_hand() -> None:
    # A step of 3 sequences with 8 + 4/2 = 10 tokens each moves 2000 + 300 bytes, in 2.3 s; its arithmetic is
    # 2 · 1000 · 3 FLOPs, 0.6 s. A prompt is 2 · 1000 · 8 · 3 = 48000 FLOPs, 4.8 s.
    limit = limit_as_published(SMALL, Peak(10_000, 1000), 3, prompt=8, answer=4, prompts=2)
    assert limit.prefill_seconds == pytest.approx(2 * 4.8)
    assert limit.decode_seconds == pytest.approx(2 * 4 * 2.3)
    assert limit.images_per_second == pytest.approx(3 / (9.6 + 18.4))


def test_a_step_is_bound_by_arithmetic_where_that_is_slower() -> None:
    assert SMALL.step_seconds(Peak(1000, 1e6), 3, 10) == pytest.approx(6.0)


def test_our_way_by_hand() -> None:
    # 3 images are 6 sequences of 5 + (2 + 4) / 2 + 4 / 2 = 10 tokens: 2000 + 600 bytes a step, 2.6 s.
    # Taken in: 2 · 900 · 3 · (5 + 2 + 4) = 59400 FLOPs, the head once a sequence 2 · 100 · 6 = 1200, and 3
    # images at 200.
    limit = limit_as_we_do(SMALL, Peak(10_000, 1000), 3, prefix=5, suffixes=(2, 4), steps=4, image_flops=200)
    assert limit.prefill_seconds == pytest.approx(6.12)
    assert limit.decode_seconds == pytest.approx(4 * 2.6)


def test_llama_2_7b_weighs_what_the_goals_say() -> None:
    weights = (LLAMA_2_7B.body + LLAMA_2_7B.head) * LLAMA_2_7B.parameter_bytes
    assert weights == pytest.approx(13.2e9, abs=0.05e9)
    assert LLAMA_2_7B.cached_bytes == pytest.approx(0.52e6, abs=0.005e6)


@pytest.mark.parametrize(("sequences", "stated"), [(1, "2.7"), (32, "54"), (128, "102"), (512, "131")])
def test_the_stated_limits_of_an_h200(sequences: int, stated: str) -> None:
    limit = limit_as_published(LLAMA_2_7B, H200.attainable(), sequences).images_per_second
    assert f"{limit:.{len(stated.partition('.')[2])}f}" == stated


def test_no_other_parts_of_the_data_sheet_give_the_stated_limits() -> None:
    def stated(arithmetic: int, bandwidth: int) -> list[str]:
        peak = Peak(H200.flops * arithmetic / 100, H200.bandwidth * bandwidth / 100)
        limits = [limit_as_published(LLAMA_2_7B, peak, n).images_per_second for n in (1, 32, 128, 512)]
        return [f"{limits[0]:.1f}", *(f"{limit:.0f}" for limit in limits[1:])]

    percents = range(50, 101)
    pairs = [pair for pair in product(percents, percents) if stated(*pair) == ["2.7", "54", "102", "131"]]
    assert pairs == [(100 * ATTAINABLE_FLOPS, 100 * ATTAINABLE_BANDWIDTH)]


def test_the_stated_goals_follow_from_them() -> None:
    attainable = H200.attainable()
    alone = LLAMA_2_7B.step_seconds(attainable, 1, 135 + 60 / 2)
    assert round(0.6 / alone) == 195  # tokens/s
    best = limit_as_published(LLAMA_2_7B, attainable, GOAL_SEQUENCES).images_per_second
    assert int(0.5 * best) == 65


def test_the_data_sheet_alone_would_give_others() -> None:
    limits = [limit_as_published(LLAMA_2_7B, H200, n).images_per_second for n in (1, 32, 128, 512)]
    assert [round(limits[0]), *(round(limit) for limit in limits[1:])] == [3, 62, 120, 156]


def test_a_shared_prefix_raises_the_limit() -> None:
    peak = H200.attainable()
    for images in (1, 32, 256):
        whole = limit_as_published(LLAMA_2_7B, peak, images)
        shared = limit_as_we_do(LLAMA_2_7B, peak, images, prefix=56, suffixes=(79, 79), steps=60)
        assert shared.images_per_second > whole.images_per_second
