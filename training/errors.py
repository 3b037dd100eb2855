"""Errors of the training package.

TrainingError            a run cannot start or go on
└── DatasetError         a dataset cannot be read at all
"""

from __future__ import annotations

from pathlib import Path


class TrainingError(Exception):
    """The request cannot be carried out, or the run has gone wrong (a loss that is no number)."""


class DatasetError(TrainingError):
    """A file of a dataset is absent or not what it must be. What is wrong with a row is no error."""

    def __init__(self, words: str, file: Path, line: int | None = None) -> None:
        self.file = file
        self.line = line
        super().__init__(f"{file}:{line}: {words}" if line else f"{file}: {words}")
