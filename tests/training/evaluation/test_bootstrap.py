"""Confidence intervals: against scipy, and what a draw of images means."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import bootstrap, norm

from training.evaluation.bootstrap import CONFIDENCE, Estimate, Images, Ratios, Values, estimate


def test_the_interval_of_a_rate_is_scipy_s() -> None:
    rng = np.random.default_rng(4)
    hits = (rng.random(200) < 0.3).astype(float)
    found = estimate([Ratios({("rate",): (hits, 1.0)})], 200, resamples=4000, seed=1)["rate",]
    theirs = bootstrap(
        (hits,), np.mean, n_resamples=4000, confidence_level=CONFIDENCE, method="percentile", rng=rng
    ).confidence_interval
    assert found.value == pytest.approx(hits.mean())
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=0.006)


def test_the_interval_of_a_mean_is_about_that_of_the_normal_distribution() -> None:
    numbers = np.random.default_rng(5).normal(10, 2, 400)
    found = estimate([Ratios({("mean",): (numbers, 1.0)})], 400, resamples=4000)["mean",]
    half = norm.ppf((1 + CONFIDENCE) / 2) * numbers.std() / np.sqrt(400)
    assert found.low is not None and found.high is not None
    assert (found.low, found.high) == pytest.approx((numbers.mean() - half, numbers.mean() + half), abs=0.02)


def test_ratios_are_of_sums() -> None:
    ratios = Ratios({("found",): (np.array([1, 0, 3]), np.array([1, 2, 5])), ("none",): (np.zeros(3), 0.0)})
    values = ratios.values(np.array([0, 0, 2]))
    assert values["found",] == pytest.approx((1 + 1 + 3) / (1 + 1 + 5))
    assert np.isnan(values["none",])


def test_without_draws_there_is_no_interval_and_of_nothing_no_value() -> None:
    found = estimate([Ratios({("one",): (np.ones(3), 1.0), ("none",): (np.ones(3), 0.0)})], 3)
    assert found == {("one",): Estimate(1.0), ("none",): Estimate(None)}


def test_draws_in_which_a_value_is_not_defined_do_not_count() -> None:
    only_first = np.array([1.0, 0.0, 0.0])
    found = estimate([Ratios({("rate",): (only_first, only_first)})], 3, resamples=50)["rate",]
    assert found == Estimate(1.0, 1.0, 1.0)


def test_the_seed_decides_and_the_run_is_tracked() -> None:
    ratios = Ratios({("rate",): (np.arange(30.0), 1.0)})
    tracked: list[int] = []

    def track(draws: range) -> range:
        tracked.append(len(draws))
        return draws

    first = estimate([ratios], 30, resamples=20, seed=7, track=track)
    assert first == estimate([ratios], 30, resamples=20, seed=7)
    assert first != estimate([ratios], 30, resamples=20, seed=8)
    assert tracked == [20]


class _Drawn:
    def __init__(self) -> None:
        self.draws: list[Images] = []

    def values(self, images: Images) -> Values:
        self.draws.append(images)
        return {("any",): 0.0}


def test_as_many_images_are_drawn_as_there_are_and_some_of_them_twice() -> None:
    drawn = _Drawn()
    estimate([drawn], 50, resamples=10)
    everything, *draws = drawn.draws
    assert everything.tolist() == list(range(50))
    assert {len(draw) for draw in draws} == {50}
    # Of n images a draw is expected to have n (1 - 1/e) different ones.
    assert 25 < np.mean([len(set(draw.tolist())) for draw in draws]) < 38
