"""What a run learns from, and in which order one of its processes gets it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Final

from training.batches import Batch, Teaching, load_batches
from training.errors import TrainingError
from training.lessons import Lessons
from training.order import BatchOrder, balanced_weights

WINDOW_STEPS: Final = 16
"""So many steps' answers are sorted together where their lengths are known only when they are made."""


@dataclass(frozen=True, slots=True)
class Course:
    """What a run learns from.

    Attributes:
        lessons: To learn.
        validation: To be measured by, never learnt; None: every checkpoint is as good as the last.
        workers: Processes that prepare batches.
    """

    lessons: Lessons
    validation: Lessons | None = None
    workers: int = 1


class Supply:
    """The batches of a course that one of ``world_size`` processes computes."""

    def __init__(self, course: Course, teaching: Teaching, *, world_size: int = 1, rank: int = 0) -> None:
        """Args:
            course: Of the run.
            teaching: What the batches are made for.
            world_size: Processes that share each step.
            rank: Which of them this is, from 0.

        Raises:
            TrainingError: If a step's images cannot be shared out evenly.
        """
        recipe = teaching.recipe
        if recipe.batch_size % (recipe.accumulation * world_size):
            parts = f"{recipe.accumulation} accumulated batches of {world_size} processes"
            raise TrainingError(f"a batch_size of {recipe.batch_size} cannot be split into {parts}")
        self._course, self._teaching, self._recipe = course, teaching, recipe
        self._world_size, self._rank = world_size, rank
        self._batch_size = recipe.batch_size // recipe.accumulation // world_size
        lessons = course.lessons
        balanced = recipe.data.sampler == "balanced"
        self._order = BatchOrder(
            lessons.lengths if recipe.data.by_length else None,
            recipe.batch_size // world_size,
            recipe.seed,
            images=len(lessons),
            weights=balanced_weights(lessons.label_sets) if balanced else None,
            world_size=world_size,
            rank=rank,
        )

    @property
    def steps_per_epoch(self) -> int:
        """As many as it takes to see each image once."""
        return self._order.batches_per_epoch

    def batches(self, step: int) -> Iterator[Batch]:
        """This process's batches from a step on, without end; as many a step as are accumulated."""
        lessons, size, parts = self._course.lessons, self._batch_size, self._recipe.accumulation
        # Where nobody knows the answers' lengths beforehand, they are sorted when made, some steps at a
        # time; a run that goes on in the middle makes them once more and leaves out what it had.
        sorts_late = lessons.lengths is None and self._recipe.data.by_length
        behind = step % WINDOW_STEPS if sorts_late else 0
        rows = self._order.batches(step - behind)
        made = load_batches(
            lessons,
            (row[place : place + size] for row in rows for place in range(0, len(row), size)),
            self._teaching,
            workers=self._course.workers,
            window=WINDOW_STEPS * parts if sorts_late else 1,
        )
        return islice(made, behind * parts, None)

    @cached_property
    def validation(self) -> list[Batch]:
        """This process's share of the validation images."""
        lessons = self._course.validation
        if lessons is None:
            return []
        chosen = range(min(len(lessons), self._recipe.validation_images))
        size = self._batch_size
        rows = [list(chosen[place : place + size]) for place in range(0, len(chosen), size)]
        mine = rows[self._rank :: self._world_size]
        return list(load_batches(lessons, mine, self._teaching, workers=0))
