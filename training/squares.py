"""The cached display images of a list of files, by their place in the list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.datasets.problems import Problem, Tally
from training.errors import TrainingError
from training.shards import Shards


class Squares:
    """Display images, (size, size) uint8 each, mapped from disk; cheap to send to another process.

    Attributes:
        files: Whose they are.
        keys: Of each image's record; None where it is missing. What is derived of an image is kept by it.
        missing: Why there is no image, by its place.
        size: Side in pixels.
    """

    def __init__(
        self,
        files: Sequence[Path],
        shards: Shards,
        keys: Sequence[bytes | None],
        missing: Mapping[int, Problem],
        size: int,
    ) -> None:
        self.files = tuple(files)
        self.keys = tuple(keys)
        self.missing = dict(missing)
        self.size = size
        self._shards = shards
        numbers = [None if key is None else shards.number(key) for key in keys]
        self._numbers = np.array([-1 if number is None else number for number in numbers])  # (images,)

    def __len__(self) -> int:
        return len(self.files)

    @property
    def present(self) -> list[int]:
        """The places whose image is there."""
        return [place for place in range(len(self)) if place not in self.missing]

    def __getitem__(self, place: int) -> NDArray[np.uint8]:
        """One image, (size, size) uint8, read-only; ``np.stack`` some of them to go on to torch.

        Raises:
            TrainingError: If it is missing, or was damaged on disk since.
            IndexError: If there is no such place.
        """
        number = int(self._numbers[place])
        if number < 0:
            reason = self.missing.get(place)
            raise TrainingError(f"{self.files[place]}: is not cached: {reason.words if reason else ''}")
        square: NDArray[Any] = self._shards[number]
        return square

    def report(self, tally: Tally) -> None:
        """Counts what is missing, by kind."""
        for problem in self.missing.values():
            tally.report(problem.kind, problem.place, problem.column, problem.words)
