"""Lessons as tensors, several at once."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Any, Final

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers import PreTrainedTokenizerBase

from litegpt.model_folder import LiteGPT
from litegpt.vocabulary import DIAGNOSES
from training.dense import dense_targets, grids_of
from training.lessons import Lesson, Lessons
from training.recipe import Recipe, Tag

IGNORED: Final = -100
"""Marks padding in answers, as in transformers' losses."""


@dataclass(frozen=True, slots=True)
class DenseTargets:
    """What the dense task asks of each patch (see ``training.dense``).

    Attributes:
        labels: (batch, cells, labels), 0 or 1.
        boxes: (batch, cells, 4), fractions of the side or NaN.
        diagnoses: (batch, diagnoses), 0 or 1.
    """

    labels: torch.Tensor
    boxes: torch.Tensor
    diagnoses: torch.Tensor


@dataclass(frozen=True, slots=True)
class Batch:
    """What is learnt from at once.

    Attributes:
        names: Of the images, for messages.
        squares: (batch, size, size) uint8, one for each different preprocessing; empty where ``tokens`` are.
        tokens: (batch, tokens, width) of the frozen encoders, where they are kept; else None.
        answers: By tag, (its share of the batch, length) token ids and EOS, then ``IGNORED``.
        dense: Where the recipe has the dense task.
    """

    names: tuple[str, ...]
    squares: tuple[torch.Tensor, ...]
    tokens: torch.Tensor | None
    answers: Mapping[Tag, torch.Tensor]
    dense: DenseTargets | None

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        return replace(
            self,
            squares=tuple(square.to(device, non_blocking=True) for square in self.squares),
            tokens=None if self.tokens is None else self.tokens.to(device, non_blocking=True),
            answers={tag: ids.to(device, non_blocking=True) for tag, ids in self.answers.items()},
            dense=None
            if self.dense is None
            else DenseTargets(
                self.dense.labels.to(device), self.dense.boxes.to(device), self.dense.diagnoses.to(device)
            ),
        )


@dataclass(frozen=True, slots=True)
class Teaching:
    """What batches are made for.

    Attributes:
        tokenizer: The model's.
        recipe: Says which answers and targets are wanted.
        grids: Of the model's encoders, for the dense task (``training.dense.grids_of``).
    """

    tokenizer: PreTrainedTokenizerBase
    recipe: Recipe
    grids: tuple[int, ...]

    @classmethod
    def of(cls, loaded: LiteGPT, recipe: Recipe) -> Teaching:
        """For a model and a recipe."""
        return cls(loaded.tokenizer, recipe, grids_of(loaded.model))


def make_batch(lessons: Sequence[Lesson], teaching: Teaching) -> Batch:
    """Puts lessons into one batch, with the answers that the recipe teaches."""
    recipe, tokenizer = teaching.recipe, teaching.tokenizer
    answers = {}
    for tag, task in recipe.tasks.items():
        learning = lessons[: max(1, round(task.share * len(lessons)))]
        answers[tag] = _answers([lesson.answer(tag) for lesson in learning], tokenizer)
    kept = [lesson.tokens for lesson in lessons if lesson.tokens is not None]
    return Batch(
        names=tuple(lesson.name for lesson in lessons),
        squares=tuple(
            torch.from_numpy(np.stack(each)) for each in zip(*(one.squares for one in lessons), strict=True)
        ),
        tokens=torch.from_numpy(np.stack(kept)) if kept else None,
        answers=answers,
        dense=_dense(lessons, teaching.grids) if recipe.dense else None,
    )


def _dense(lessons: Sequence[Lesson], grids: Sequence[int]) -> DenseTargets:
    targets = [dense_targets(lesson.boxes, grids) for lesson in lessons]
    said = [[diagnosis in lesson.diagnoses for diagnosis in DIAGNOSES] for lesson in lessons]
    return DenseTargets(
        labels=torch.from_numpy(np.stack([labels for labels, _ in targets])),
        boxes=torch.from_numpy(np.stack([boxes for _, boxes in targets])),
        diagnoses=torch.tensor(said, dtype=torch.float32),
    )


def _answers(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> torch.Tensor:
    ids = [[*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id] for text in texts]
    longest = max(len(answer) for answer in ids)
    return torch.tensor([answer + [IGNORED] * (longest - len(answer)) for answer in ids])


class _Windows(Dataset[list[Batch]]):
    """Some batches at once, by the numbers of their lessons."""

    def __init__(self, lessons: Lessons, teaching: Teaching, by_length: bool) -> None:
        self._lessons = lessons
        self._teaching = teaching
        self._by_length = by_length

    def __getitem__(self, window: Sequence[Sequence[int]]) -> list[Batch]:
        made = [self._lessons[index] for row in window for index in row]
        rows = regrouped(made, self._teaching, window) if self._by_length else split_like(made, window)
        return [make_batch(row, self._teaching) for row in rows]


def regrouped(
    lessons: Sequence[Lesson], teaching: Teaching, window: Sequence[Sequence[int]]
) -> list[list[Lesson]]:
    """The lessons of a window in batches of like answers, which come in an order of their own.

    Args:
        lessons: Of all the window's batches.
        teaching: Says which answers count.
        window: The numbers of each batch's lessons; they decide about the order.
    """
    tags = teaching.recipe.tasks
    texts = [[lesson.answer(tag) for tag in tags] for lesson in lessons]
    encode = teaching.tokenizer.encode
    lengths = [sum(len(encode(text, add_special_tokens=False)) for text in each) for each in texts]
    ordered = [lessons[place] for place in np.argsort(lengths, kind="stable")]
    rows = split_like(ordered, window)
    rng = np.random.default_rng([index for row in window for index in row])
    return [rows[place] for place in rng.permutation(len(rows))]


def split_like(lessons: Sequence[Lesson], window: Sequence[Sequence[int]]) -> list[list[Lesson]]:
    """Lessons in batches as large as the window's."""
    rest = iter(lessons)
    return [list(islice(rest, len(row))) for row in window]


def load_batches(
    lessons: Lessons,
    rows: Iterable[Sequence[int]],
    teaching: Teaching,
    *,
    workers: int = 1,
    window: int = 1,
) -> Iterator[Batch]:
    """Batches, made by processes beside the training.

    Args:
        lessons: What they are made of.
        rows: The numbers of each batch's lessons.
        teaching: What they are made for.
        workers: How many processes; 0: none, made when asked for.
        window: So many batches are made at once, and their lessons sorted by the length of their answers.
    """
    ahead = max(1, 8 // window)
    more: dict[str, Any] = (
        {"prefetch_factor": ahead, "worker_init_fn": _leave_interrupts_alone} if workers else {}
    )
    windows = DataLoader(
        _Windows(lessons, teaching, by_length=window > 1),
        batch_size=None,
        sampler=_Once(rows, window),
        num_workers=workers,
        **more,
    )
    return chain.from_iterable(windows)


class _Once(Sampler[list[Sequence[int]]]):
    """The rows, some at a time."""

    def __init__(self, rows: Iterable[Sequence[int]], window: int) -> None:
        self._rows = rows
        self._window = window

    def __iter__(self) -> Iterator[list[Sequence[int]]]:
        rows = iter(self._rows)
        while window := list(islice(rows, self._window)):
            yield window


def _leave_interrupts_alone(worker: int) -> None:
    """A Ctrl-C is for the process that trains: it ends its step, saves, and ends its workers.

    Terminals send it to all, as schedulers of jobs do with SIGTERM.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
