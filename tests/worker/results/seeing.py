"""A stand-in for the network that really looks: it finds the rectangle in the tensors that a model would get.

It knows nothing of the image they were made from, nor how. Everything around it is the product's: what makes
the tensors, and what makes findings of the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import numpy as np
import numpy.typing as npt
import torch

from litegpt.answering import Answered, Answerer, Statement
from litegpt.answers import read_findings
from litegpt.boxes import GridBox
from litegpt.engine import Engine
from litegpt.preprocessing import Preprocessing
from tests.worker.results.scenes import BRIGHT, DARK, Sides

LABEL = "Pneumothorax"
_HALF = (BRIGHT + sum(DARK) / 2) / 2


class Seer(Answerer):
    """Answers where the brightest rectangle is, on the model's grid or finer than any model can.

    Attributes:
        steps: Whether the answer is written in whole steps of the grid, and read as a model's answer is.
    """

    def __init__(self, preprocessing: Preprocessing, *, steps: bool) -> None:
        # None of Answerer's own: there is no network to ask
        self._prepared = preprocessing
        self.steps = steps

    def answer(self, images: Sequence[torch.Tensor], *, candidates: bool = False) -> list[Answered]:
        """As a model does; each of ``images`` is (batch, 3, size, size)."""
        # Encoders may want different sizes: what all of them see is in the same place
        places = [[self._place(one) for one in batch.numpy()] for batch in images]
        for others in places[1:]:
            np.testing.assert_allclose(others, places[0], atol=0.4)
        return [self._said(place) for place in places[0]]

    def _place(self, image: npt.NDArray[np.float32]) -> Sides:
        """In hundredths of the square; ``image`` is (3, size, size)."""
        gray = (image[0] * self._prepared.std[0] + self._prepared.mean[0]) * 255  # (size, size)
        return rectangle_of(gray)

    def _said(self, place: Sides) -> Answered:
        if not self.steps:
            # Finer than the type allows, which is the point
            return Answered({}, (), (Statement(LABEL, 0.9, cast(GridBox, place), 0.5),))
        numbers = "".join(f"<{round(side)}>" for side in place)
        text = f"Local diseases of this chest radiograph are <p>{LABEL}</p> {{{numbers}}}."
        read = read_findings(text)
        statements = tuple(Statement(said.label, 0.9, said.box, 0.5) for said in read.labels)
        return Answered({"identify": text}, (), statements, read.malformed)


def seeing(engine: Engine, *, steps: bool) -> Engine:
    """An engine whose network is replaced, and whose two encoders want images of different sizes."""
    first = engine._preprocessings[0]
    engine._preprocessings = (first, replace(first, size=336))
    engine._answerer = Seer(first, steps=steps)
    return engine


def rectangle_of(gray: npt.NDArray[np.float32]) -> Sides:
    """The bright rectangle's edges in hundredths of a picture's sides, between pixels too.

    Args:
        gray: (rows, columns), 0..255.
    """
    down, across = np.nonzero(gray > _HALF)
    columns = gray[_middle(down)].mean(axis=0)  # (columns,)
    rows = gray[:, _middle(across)].mean(axis=1)  # (rows,)
    (left, right), (top, bottom) = _crossings(columns), _crossings(rows)
    return left, top, right, bottom


def _middle(bright: npt.NDArray[np.intp]) -> slice:
    """The middle half of what is bright, where only the other axis' edges are."""
    low, high = int(bright.min()), int(bright.max()) + 1
    quarter = (high - low) // 4
    return slice(low + quarter, high - quarter)


def _crossings(profile: npt.NDArray[np.float32]) -> tuple[float, float]:
    """Where it rises through half of the rectangle's height and falls again, in hundredths.

    Samples are centres of pixels, so that between two of them the place is interpolated.
    """
    last = len(profile) - 1
    bright = np.flatnonzero(profile > _HALF)
    first, end = int(bright[0]), int(bright[-1])
    low, high = 0.0, len(profile)
    if first > 0:
        low = first - 0.5 + (_HALF - profile[first - 1]) / (profile[first] - profile[first - 1])
    if end < last:
        high = end + 0.5 + (profile[end] - _HALF) / (profile[end] - profile[end + 1])
    return float(low) / len(profile) * 100, float(high) / len(profile) * 100
