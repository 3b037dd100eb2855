"""Calibration maps against scikit-learn, scipy and hand-worked cases; the error of calibration by hand."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import log_loss

from training.calibration import (
    METHODS,
    Curve,
    Examples,
    Scores,
    Truths,
    calibrate,
    expected_calibration_error,
)
from training.errors import TrainingError


def drawn(scores: Scores, probabilities: Scores, seed: int = 0) -> Examples:
    """Examples that are right as often as told, each of an image of its own."""
    truths = np.random.default_rng(seed).random(len(scores)) < probabilities
    return Examples(scores, truths, np.arange(len(scores)))


def uniform(count: int, low: float = 0.0, high: float = 1.0) -> Scores:
    return np.random.default_rng(7).uniform(low, high, count)


def fitted(method: str, examples: Examples) -> Curve:
    curve = METHODS[method](examples.scores, examples.truths)
    assert curve is not None
    return curve


def test_a_temperature_is_that_of_the_lowest_log_loss() -> None:
    examples = drawn(scores := uniform(3000, 0.01, 0.99), expit(logit(scores) / 2.5))
    best = minimize_scalar(
        lambda temperature: log_loss(examples.truths, expit(logit(scores) / temperature)),
        bounds=(0.1, 10),
        method="bounded",
    ).x
    assert best == pytest.approx(2.5, rel=0.15)
    mapped = np.interp(scores, *fitted("temperature", examples))
    assert mapped == pytest.approx(expit(logit(scores) / best), abs=2e-3)


def test_a_shift_lifts_small_scores() -> None:
    # As products of probabilities are: right often, small always.
    scores = uniform(30_000, 0.0005, 0.02)
    wanted = expit(0.8 * logit(scores) + 5)
    mapped = np.interp(scores, *fitted("temperature and shift", drawn(scores, wanted)))
    assert mapped == pytest.approx(wanted, abs=0.02)


def test_isotonic_regression_by_hand() -> None:
    scores, truths = np.array([0.1, 0.2, 0.3, 0.4]), np.array([False, True, False, True])
    mapped = np.interp(scores, *fitted("isotonic", Examples(scores, truths, np.arange(4))))
    # The second and third are out of order and share their mean; the ends are as near to 0 and 1 as four
    # examples can show: 1 / 6.
    assert mapped == pytest.approx([1 / 6, 1 / 2, 1 / 2, 5 / 6])


def test_isotonic_regression_is_that_of_scikit_learn() -> None:
    examples = drawn(scores := uniform(400), scores**2)
    theirs = IsotonicRegression(y_min=1 / 402, y_max=401 / 402, out_of_bounds="clip").fit(
        scores, examples.truths
    )
    anywhere = np.linspace(0, 1, 1001)
    mapped = np.interp(anywhere, *fitted("isotonic", examples))
    assert mapped == pytest.approx(theirs.predict(anywhere))


@pytest.mark.parametrize(
    ("scores", "probabilities", "method"),
    [
        (
            uniform(4000, 0.02, 0.98),
            lambda scores: expit(logit(scores) / 3),
            "temperature",
        ),  # a shift of about 0 is as good
        (uniform(4000, 0.001, 0.02), lambda scores: expit(logit(scores) + 5), "temperature and shift"),
        (
            uniform(4000),
            lambda scores: np.where(scores < 0.5, 0.1, np.where(scores < 0.8, 0.4, 0.9)),
            "isotonic",
        ),
        (uniform(4000), lambda scores: 1 - scores, "isotonic"),  # the higher, the less: all get the mean
        (uniform(40), lambda scores: np.ones_like(scores), "isotonic"),  # no regression on one outcome
    ],
    ids=["overconfident", "small", "in steps", "the wrong way round", "always right"],
)
def test_the_family_that_fits_is_taken(
    scores: Scores, probabilities: Callable[[Scores], Scores], method: str
) -> None:
    wanted = probabilities(scores)
    examples = drawn(scores, wanted)
    found = calibrate(examples)
    assert found.method.startswith(method)
    assert (found.examples, found.right) == (len(scores), examples.truths.sum())
    assert found.ece_after < 0.05 < found.ece_before
    if wanted[0] != 1 - scores[0]:
        mapped = [found(score) for score in scores]
        assert np.mean(np.abs(mapped - wanted)) < 0.05


def test_the_error_after_calibration_is_that_of_images_not_seen() -> None:
    """Two examples an image, both the same, with truth by the toss of a coin for the image: whoever has seen
    one knows the other, so an error near 0 would tell that images were parted."""
    scores = np.repeat(uniform(150), 2)
    truths = np.repeat(np.random.default_rng(3).random(150) < 0.5, 2)
    found = calibrate(Examples(scores, truths, np.repeat(np.arange(150), 2)))
    seen = np.interp(scores, *fitted("isotonic", Examples(scores, truths, np.arange(300))))
    assert expected_calibration_error(seen, truths) < 0.01
    assert found.ece_after > 0.03


def test_too_few_images_are_refused() -> None:
    examples = Examples(uniform(50), uniform(50) < 0.5, np.arange(50) % 4)
    with pytest.raises(TrainingError, match="scores of 4 images, 5 are needed"):
        calibrate(examples)


def test_the_error_of_calibration_by_hand() -> None:
    scores, truths = np.array([0.1, 0.6, 0.9, 0.2]), np.array([False, True, True, True])
    # Two bins: 0.1 and 0.2 with a mean of 0.15, half of them true; 0.6 and 0.9 with 0.75, all of them true.
    assert expected_calibration_error(scores, truths, bins=2) == pytest.approx((0.35 + 0.25) / 2)
    # One bin: 0.45 against 3 of 4.
    assert expected_calibration_error(scores, truths, bins=1) == pytest.approx(0.3)
    # As many bins as scores, and more.
    each = (0.1 + 0.4 + 0.1 + 0.8) / 4
    assert expected_calibration_error(scores, truths, bins=4) == pytest.approx(each)
    assert expected_calibration_error(scores, truths) == pytest.approx(each)


def test_bins_are_of_equal_count() -> None:
    # Twenty scores near 0 with one truth, twenty near 1 with one lie; bins of equal width would be two.
    scores = np.concatenate([np.linspace(0, 0.01, 20), np.linspace(0.99, 1, 20)])
    truths = np.arange(40) >= 20
    truths[0], truths[39] = True, False
    # Ten bins of four: only the first and the last are off, by 0.25 and what the scores are from 0 and 1.
    parts = np.split(np.arange(40), 10)
    by_hand = sum(4 * abs(scores[part].mean() - truths[part].mean()) for part in parts) / 40
    assert expected_calibration_error(scores, truths) == pytest.approx(by_hand)
    assert 0.05 < by_hand < 0.06


@given(
    st.lists(st.tuples(st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.booleans()), min_size=1),
    st.randoms(use_true_random=False),
)
def test_the_order_of_examples_does_not_matter(rows: list[tuple[float, bool]], random: Random) -> None:
    def error(listed: list[tuple[float, bool]]) -> float:
        scores, truths = np.array([s for s, _ in listed]), np.array([t for _, t in listed])
        return expected_calibration_error(scores, truths)

    shuffled = list(rows)
    random.shuffle(shuffled)
    assert error(shuffled) == pytest.approx(error(rows))


def test_equal_scores_that_are_right_as_often_as_they_say_are_no_error() -> None:
    truths: Truths = np.arange(60) % 3 == 0
    assert expected_calibration_error(np.full(60, 1 / 3), np.sort(truths)) == pytest.approx(0)
