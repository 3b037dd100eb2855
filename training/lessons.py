"""What a model learns from: images with the answers that are true of them, by number.

Any lesson can be had at any time, in any process, and is always the same. So a run can go on at any step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from litegpt.answers import write_diagnoses, write_findings, write_report
from litegpt.boxes import Box
from litegpt.preprocessing import Preprocessing
from litegpt.prompts import GROUNDING, IDENTIFY, VQA
from training.phantom.radiograph import SIDE, chosen_labels, numbered_phantom
from training.recipe import Tag

Square = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Lesson:
    """One image and what is true of it.

    Attributes:
        name: For messages: which image.
        squares: (size, size) uint8, one for each different preprocessing of the model; none where ``tokens``
            are.
        boxes: Local labels with their boxes, in fractions of the image's sides.
        diagnoses: Global labels.
        tokens: (tokens, width) the encoders' output, where it is kept.
    """

    name: str
    squares: tuple[Square, ...]
    boxes: tuple[tuple[str, Box], ...]
    diagnoses: frozenset[str]
    tokens: npt.NDArray[Any] | None = None

    def answer(self, tag: Tag) -> str:
        """The true answer to a prompt, as the published labels are written."""
        findings = [(label, box.to_grid(1, 1)) for label, box in self.boxes]
        writers: dict[str, Callable[[], str]] = {
            IDENTIFY: lambda: write_findings(findings),
            GROUNDING: lambda: write_report(findings, self.diagnoses),
            VQA: lambda: write_diagnoses(self.diagnoses),
        }
        return writers[tag]()


class Lessons(Protocol):
    """A set of lessons, safe to send to another process."""

    def __len__(self) -> int:
        """How many."""

    def __getitem__(self, index: int) -> Lesson:
        """One, by its number from 0."""

    @property
    def lengths(self) -> Sequence[int] | None:
        """Of each lesson the tokens of its answers; None where nobody knows before it is made."""

    @property
    def label_sets(self) -> Sequence[frozenset[str]]:
        """The labels of each lesson."""


class PhantomLessons:
    """Phantoms, each drawn when it is asked for."""

    def __init__(
        self,
        seed: Sequence[int],
        count: int,
        preprocessings: Sequence[Preprocessing],
        *,
        drawn_labels: Sequence[str],
    ) -> None:
        """Args:
        seed: Of the set.
        count: How many.
        preprocessings: The model's.
        drawn_labels: The local labels that phantoms may have.
        """
        self._seed = tuple(seed)
        self._count = count
        self._preprocessings = tuple(dict.fromkeys(preprocessings))
        self._drawn_labels = tuple(drawn_labels)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Lesson:
        drawn = numbered_phantom(self._seed, index, drawn_labels=self._drawn_labels)
        return Lesson(
            name=f"phantom {index} of seed {self._seed}",
            squares=tuple(one.squash(drawn.pixels) for one in self._preprocessings),
            boxes=tuple((finding.label, in_fractions(finding.box, SIDE, SIDE)) for finding in drawn.findings),
            diagnoses=frozenset(drawn.diagnoses),
        )

    @property
    def lengths(self) -> None:
        """Known only when a phantom is drawn: a finding may have one box or two, or find no room."""
        return None

    @property
    def label_sets(self) -> Sequence[frozenset[str]]:
        """Those that are to be drawn; now and then one finds no room."""
        return [
            frozenset(chosen_labels(self._seed, index, drawn_labels=self._drawn_labels))
            for index in range(self._count)
        ]


def in_fractions(box: Box, columns: int, rows: int) -> Box:
    """A box in pixels of an image of ``columns`` × ``rows`` as fractions of its sides."""
    return Box(box.x_min / columns, box.y_min / rows, box.x_max / columns, box.y_max / rows)
