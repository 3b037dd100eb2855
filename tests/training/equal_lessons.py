"""Lessons whose answers are all as long: a mean over half the batch, twice, is then that over the whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from training.lessons import Lesson, Lessons


class EqualLessons:
    """The images of others, all with the same diagnosis."""

    def __init__(self, lessons: Lessons) -> None:
        self._lessons = lessons

    def __len__(self) -> int:
        return len(self._lessons)

    def __getitem__(self, index: int) -> Lesson:
        return replace(self._lessons[index], diagnoses=frozenset({"COPD"}))

    @property
    def lengths(self) -> Sequence[int]:
        """All the same."""
        return [1] * len(self)

    @property
    def label_sets(self) -> Sequence[frozenset[str]]:
        """All the same."""
        return [frozenset({"COPD"})] * len(self)
