"""Calibration: maps from a model's scores to how often such scores are right, fitted and measured.

Three families: temperature scaling (logit / T; Guo et al., ICML 2017), the same with a shift (Platt, 1999),
and isotonic regression (Zadrozny and Elkan, KDD 2002). The one with the lowest log loss on images that it was
not fitted to is taken. A temperature leaves 0.5 where it is; the shift is for scores that are all too
low, or all too high.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
import numpy.typing as npt
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GroupKFold

from litegpt.operating_point import Calibration
from training.errors import TrainingError

FOLDS: Final = 5
BINS: Final = 10

_SMALLEST: Final = 1e-7
"""Scores are kept this far from 0 and 1 before their logits are taken."""

_BREAKPOINTS: Final = 33
"""Of a smooth map, evenly spaced in logits over the scores seen."""

_HARDLY_ANY_PENALTY: Final = 1e6
"""scikit-learn's C: scores that part right from wrong without error have no finite best slope."""

Scores = npt.NDArray[np.float64]
Truths = npt.NDArray[np.bool_]
Curve = tuple[Scores, Scores]
"""Breakpoints, ascending, and the values there, never descending."""


@dataclass(frozen=True, slots=True)
class Examples:
    """Scores with what turned out to be true.

    Attributes:
        scores: (examples,) raw, 0..1.
        truths: (examples,) whether each was right.
        images: (examples,) number of the image that each belongs to; those of one image are never parted.
    """

    scores: Scores
    truths: Truths
    images: npt.NDArray[np.int64]

    @classmethod
    def of(cls, rows: Iterable[tuple[float, bool, int]]) -> Examples:
        """From (score, truth, image)."""
        listed = list(rows)
        return cls(
            np.array([score for score, _, _ in listed], np.float64),
            np.array([truth for _, truth, _ in listed], np.bool_),
            np.array([image for _, _, image in listed], np.int64),
        )


def calibrate(examples: Examples) -> Calibration:
    """Fits each family, keeps the best on held-out images (of equals the plainest), and says how good it is.

    Raises:
        TrainingError: If the examples are of fewer images than there are folds.
    """
    images = len(np.unique(examples.images))
    if images < FOLDS:
        raise TrainingError(f"too little to calibrate on: scores of {images} images, {FOLDS} are needed")
    method, (raw, calibrated), held_out = min(_fits(examples), key=lambda fit: _log_loss(fit[2], examples))
    return Calibration(
        method=method,
        raw=tuple(raw.tolist()),
        calibrated=tuple(calibrated.tolist()),
        examples=len(examples.scores),
        right=int(examples.truths.sum()),
        ece_before=expected_calibration_error(examples.scores, examples.truths),
        ece_after=expected_calibration_error(held_out, examples.truths),
    )


def expected_calibration_error(scores: Scores, truths: Truths, bins: int = BINS) -> float:
    """Mean distance between score and truth over bins of equal count (as far as they can be equal).

    Equal scores share their mean truth, so that it does not matter which of them falls into which bin.

    Args:
        scores: (examples,).
        truths: (examples,).
        bins: How many.
    """
    _, group = np.unique(scores, return_inverse=True)  # (examples,) which of the different scores
    shared = (np.bincount(group, weights=truths) / np.bincount(group))[group]  # (examples,)
    order = np.argsort(scores, kind="stable")  # (examples,)
    errors = (scores - shared)[order]
    return float(sum(abs(part.sum()) for part in np.array_split(errors, bins)) / len(scores))


def _temperature(scores: Scores, truths: Truths, *, shift: bool) -> Curve | None:
    """Logistic regression on the logit; None where the truth is all one, or falls as the score rises."""
    if truths.all() or not truths.any():
        return None
    logits = _logits(scores)[:, None]  # (examples, 1)
    regression = LogisticRegression(C=_HARDLY_ANY_PENALTY, fit_intercept=shift, max_iter=1000)
    regression.fit(logits, truths)
    if regression.coef_[0, 0] <= 0:
        return None
    grid = np.unique(np.linspace(logits.min(), logits.max(), _BREAKPOINTS))  # (breakpoints,)
    return 1 / (1 + np.exp(-grid)), regression.predict_proba(grid[:, None])[:, 1]


def _isotonic(scores: Scores, truths: Truths) -> Curve:
    """Isotonic regression; n examples show no probability nearer to 0 or 1 than Laplace's 1 / (n + 2)."""
    edge = 1 / (len(scores) + 2)
    regression = IsotonicRegression(y_min=edge, y_max=1 - edge).fit(scores, truths)
    return regression.X_thresholds_, regression.y_thresholds_


METHODS: Final[Mapping[str, Callable[[Scores, Truths], Curve | None]]] = {
    "temperature": partial(_temperature, shift=False),
    "temperature and shift": partial(_temperature, shift=True),
    "isotonic": _isotonic,
}
"""The families by name, the plainest first."""


def _fits(examples: Examples) -> Iterator[tuple[str, Curve, Scores]]:
    """Of each family that fits: its name, its curve, and all scores calibrated without their own image."""
    for name, fit in METHODS.items():
        curve, held_out = fit(examples.scores, examples.truths), _held_out(fit, examples)
        if curve is not None and held_out is not None:
            yield name, curve, held_out


def _log_loss(calibrated: Scores, examples: Examples) -> float:
    return float(log_loss(examples.truths, calibrated, labels=[False, True]))


def _held_out(fit: Callable[[Scores, Truths], Curve | None], examples: Examples) -> Scores | None:
    """(examples,) calibrated, each by a curve fitted without its image; None where that is not possible."""
    calibrated = np.empty_like(examples.scores)
    for known, unknown in GroupKFold(FOLDS).split(examples.scores, groups=examples.images):
        curve = fit(examples.scores[known], examples.truths[known])
        if curve is None:
            return None
        calibrated[unknown] = np.interp(examples.scores[unknown], *curve)
    return calibrated


def _logits(scores: Scores) -> Scores:
    inside = np.clip(scores, _SMALLEST, 1 - _SMALLEST)
    return np.log(inside / (1 - inside))
