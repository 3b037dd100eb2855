"""Steps of training, timed part by part: waiting for data, encoding, learning, updating.

The same parts as ``training.loop``'s, one after the other in one process: a wait for data is seen as such.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch

from litegpt.model_folder import LiteGPT
from litegpt.preprocessing import squash
from training.batches import Teaching, make_batch
from training.dataset_course import DatasetCourse, DatasetLessons, Truth
from training.datasets.pictures import read_image
from training.learner import Learner
from training.lessons import Lesson, Lessons
from training.loop import checkpoint_gradients
from training.optimisers import Optimisers, choose_trained
from training.order import BatchOrder, padding_waste
from training.recipe import Recipe

PARTS = ("data", "encode", "learn", "update")


class UncachedLessons:
    """The same lessons, each image decoded when it is asked for."""

    def __init__(self, lessons: DatasetLessons, truths: Sequence[Truth], loaded: LiteGPT) -> None:
        self._lessons = lessons
        self._files = {truth.name: truth.file for truth in truths}
        self._preprocessings = loaded.preprocessings

    def __len__(self) -> int:
        return len(self._lessons)

    def __getitem__(self, index: int) -> Lesson:
        lesson = self._lessons[index]
        radiograph = read_image(self._files[lesson.name])
        squares = squash(self._preprocessings, radiograph).squares
        return Lesson(lesson.name, squares, lesson.boxes, lesson.diagnoses)

    @property
    def lengths(self) -> Sequence[int] | None:
        """Of the answers."""
        return self._lessons.lengths

    @property
    def label_sets(self) -> Sequence[frozenset[str]]:
        """The labels of each image."""
        return self._lessons.label_sets


@dataclass(slots=True)
class Way:
    """One way to come by the images, and what its steps took.

    Attributes:
        name: For the table.
        lessons: From where.
        seconds: By part, a list over rounds of the mean of a step.
    """

    name: str
    lessons: Lessons
    seconds: dict[str, list[float]] = field(default_factory=lambda: {part: [] for part in PARTS})

    def step_seconds(self) -> float:
        """The median over the rounds of a step's seconds."""
        return median(map(sum, zip(*self.seconds.values(), strict=True)))

    def encoders_share(self) -> float:
        """The part of a step that the encoders take, 0..1: the median over the rounds."""
        steps = map(sum, zip(*self.seconds.values(), strict=True))
        return median(encode / step for encode, step in zip(self.seconds["encode"], steps, strict=True))


class TimedTraining:
    """A model that takes steps from several ways in turn."""

    def __init__(self, loaded: LiteGPT, recipe: Recipe, device: str) -> None:
        choose_trained(recipe, loaded.model)
        if recipe.gradient_checkpointing:
            checkpoint_gradients(loaded)
        self._device = torch.device(device)
        self._recipe = recipe
        self._loaded = loaded
        self._learner = Learner(loaded, recipe).to(self._device).train()
        self._optimisers = Optimisers(recipe, loaded.model, None)
        self._teaching = Teaching.of(loaded, recipe)

    def measure(self, way: Way, steps: int, round_: int) -> None:
        """Takes some steps and keeps the means of their parts; another round sees other images."""
        order = BatchOrder(way.lessons.lengths, self._recipe.batch_size, round_)
        spent = dict.fromkeys(PARTS, 0.0)
        for step in range(steps):
            with self._timed(spent, "data"):
                lessons = [way.lessons[index] for index in order.batch(step)]
                batch = make_batch(lessons, self._teaching).to(self._device)
            with self._timed(spent, "encode"), torch.no_grad(), self._precision():
                tokens = self._learner.visual_tokens(batch)
            with self._timed(spent, "learn"):
                losses = self._learner(replace(batch, squares=(), tokens=tokens), step)
                self._learner.weighted(losses).backward()  # type: ignore[no-untyped-call]
            with self._timed(spent, "update"):
                self._optimisers.clip()
                self._optimisers.step(step, steps)
        for part, seconds in spent.items():
            way.seconds[part].append(seconds / steps)

    def waste(self, lessons: Lessons) -> tuple[float, float]:
        """Padding of an epoch's answers, by length and by chance, 0..1."""
        lengths, size = lessons.lengths or [1] * len(lessons), self._recipe.batch_size
        by_length = BatchOrder(lengths, size, 0).epoch(0)
        by_chance = BatchOrder(None, size, 0, images=len(lengths)).epoch(0)
        return padding_waste(by_length, lengths), padding_waste(by_chance, lengths)

    def _precision(self) -> Any:
        half = self._recipe.precision == "bf16"
        return torch.autocast(self._device.type, torch.bfloat16, enabled=half)

    @contextmanager
    def _timed(self, spent: dict[str, float], part: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        if self._device.type == "cuda":
            torch.cuda.synchronize()
        spent[part] += time.perf_counter() - began


def ways(
    loaded: LiteGPT, recipe: Recipe, images: Path, caches: Path, report: Callable[[str], None]
) -> list[Way]:
    """The three ways to come by a folder of phantoms (as ``litegpt-train phantom`` writes it)."""
    report("decoding and encoding once")
    made = []
    for keeps in (False, True):
        asked = recipe.with_values({"data.cache_tokens": keeps, "data.validation_share": 0.0})
        lessons = DatasetCourse("phantom", images, caches)(loaded, asked).lessons
        made.append(lessons)
    squares, tokens = made
    if not isinstance(squares, DatasetLessons):
        raise TypeError("a dataset's course has a dataset's lessons")
    return [
        Way("images decoded each time", UncachedLessons(squares, squares.truths, loaded)),
        Way("display images cached", squares),
        Way("encoders' tokens cached", tokens),
    ]
