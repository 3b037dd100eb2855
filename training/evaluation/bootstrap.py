"""Values over any choice of images, and from that confidence intervals by the bootstrap.

What a measure needs of each image (counts, matches) is found once; the bootstrap then draws images with
replacement and asks for the values of the draw (Efron & Tibshirani 1993, percentile interval). Images are
drawn, not boxes: the boxes of one image depend on each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

CONFIDENCE: Final = 0.95

Images = npt.NDArray[np.intp]
"""(images,) indices into the test set; the same image may occur several times."""

Figures = npt.NDArray[Any]
"""Numbers of any kind."""

Path = tuple[str, ...]
"""The name of a value, from the general to the particular: ``("accuracy", "published", "0.3")``."""

Values = dict[Path, float]
"""NaN where a value is not defined, such as the recall of a label that no image has."""


class Measure(Protocol):
    """One or several values over a choice of images."""

    def values(self, images: Images) -> Values:
        """The values; always of the same paths."""
        ...


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its confidence interval; None for what is not defined or not estimated."""

    value: float | None
    low: float | None = None
    high: float | None = None


class Ratios:
    """Sums over images divided by other sums over images: means, rates, shares."""

    def __init__(self, parts: Mapping[Path, tuple[Figures, Figures | float]]) -> None:
        """Args:
        parts: Numerators and denominators, each (images,).
        """
        self._paths = tuple(parts)
        shares = [np.broadcast_arrays(*pair) for pair in parts.values()]
        self._above = np.array([above for above, _ in shares], dtype=np.float64)  # (paths, images)
        self._below = np.array([below for _, below in shares], dtype=np.float64)  # (paths, images)

    def values(self, images: Images) -> Values:
        """Each ratio; NaN where its denominator is 0."""
        above = self._above[:, images].sum(axis=1)  # (paths,)
        below = self._below[:, images].sum(axis=1)  # (paths,)
        return dict(zip(self._paths, ratio(above, below).tolist(), strict=True))


def ratio(above: Figures, below: Figures) -> Figures:
    """Element by element; NaN over 0."""
    quotients = np.full(above.shape, np.nan)
    np.divide(above, below, out=quotients, where=below != 0)
    return quotients


def estimate(
    measures: Sequence[Measure],
    images: int,
    *,
    resamples: int = 0,
    seed: int = 0,
    track: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> dict[Path, Estimate]:
    """Values over all images, each with its percentile interval.

    Args:
        measures: What is asked for.
        images: How many there are.
        resamples: How many times as many images are drawn with replacement; 0 for no intervals.
        seed: Of the draws.
        track: Wraps the run over the draws, for a progress bar.
    """
    everything = _values(measures, np.arange(images))
    rng = np.random.default_rng(seed)
    draws = [_values(measures, rng.integers(images, size=images)) for _ in track(range(resamples))]
    estimates = {}
    for path, value in everything.items():
        drawn = np.array([draw[path] for draw in draws])  # (resamples,)
        low, high = _interval(drawn[~np.isnan(drawn)])
        estimates[path] = Estimate(None if np.isnan(value) else value, low, high)
    return estimates


def _values(measures: Sequence[Measure], images: Images) -> Values:
    return {path: value for measure in measures for path, value in measure.values(images).items()}


def _interval(drawn: Figures) -> tuple[float | None, float | None]:
    if not drawn.size:
        return None, None
    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
