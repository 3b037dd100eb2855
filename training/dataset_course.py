"""A dataset of radiographs as lessons: what its readers agree on, and its images from the caches."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from accelerate import PartialState

from litegpt.boxes import Box
from litegpt.model_folder import LiteGPT
from litegpt.prompts import GROUNDING, IDENTIFY, VQA
from litegpt.vocabulary import DIAGNOSES, LOCAL_LABELS
from training.agreement import AGREED, agreed
from training.course import Course
from training.datasets.catalogue import read_dataset
from training.datasets.example import Example
from training.datasets.opened import opened
from training.datasets.problems import Tally
from training.display_cache import DisplayCache
from training.errors import TrainingError
from training.lessons import Lesson, in_fractions
from training.recipe import Recipe
from training.splits import split_of
from training.squares import Squares
from training.token_cache import TokenCache, Tokens, encoders_fingerprint

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Told how many of how many images are done."""

_TOKENS_AT_ONCE: Final = 32


@dataclass(frozen=True, slots=True)
class Truth:
    """What is known of one image, as far as a recipe's prompts ask for it.

    Attributes:
        name: The dataset's name of it.
        file: The image.
        boxes: Local labels with their boxes, in fractions of the image's sides.
        diagnoses: Global labels.
    """

    name: str
    file: Path
    boxes: tuple[tuple[str, Box], ...]
    diagnoses: frozenset[str]


class DatasetLessons:
    """Lessons of a dataset's images."""

    def __init__(
        self,
        truths: Sequence[Truth],
        squares: Sequence[Squares],
        tokens: Tokens | None,
        lengths: Sequence[int],
    ) -> None:
        """Args:
        truths: Of the images.
        squares: Their display images, for each different preprocessing of the model.
        tokens: Those of the frozen encoders, where they are kept; then no square is read.
        lengths: Of their answers, in tokens.
        """
        self.truths = tuple(truths)
        self._squares = tuple(squares)
        self._tokens = tokens
        self.lengths = tuple(lengths)

    def __len__(self) -> int:
        return len(self.truths)

    def __getitem__(self, index: int) -> Lesson:
        truth = self.truths[index]
        return Lesson(
            name=truth.name,
            squares=() if self._tokens else tuple(squares[index] for squares in self._squares),
            boxes=truth.boxes,
            diagnoses=truth.diagnoses,
            tokens=self._tokens[index] if self._tokens else None,
        )

    @property
    def label_sets(self) -> Sequence[frozenset[str]]:
        """The labels of each image."""
        return [truth.diagnoses.union(label for label, _ in truth.boxes) for truth in self.truths]


@dataclass(frozen=True, slots=True)
class DatasetCourse:
    """A dataset to learn from; called with a model and a recipe it gives their course.

    Attributes:
        dataset: One of ``training.datasets.catalogue.DATASETS``.
        path: Where it lies.
        caches: Folder of the caches.
        workers: Processes that decode images, and later prepare batches.
        progress: Told while images are decoded and encoded.
    """

    dataset: str
    path: Path
    caches: Path
    workers: int = 1
    progress: Progress | None = None

    def __call__(self, loaded: LiteGPT, recipe: Recipe) -> Course:
        """The dataset's training and validation images as lessons.

        Raises:
            DatasetError: If the dataset cannot be read.
            TrainingError: If no image is left to learn from.
            ShardError: If the caches cannot be used.
        """
        tally = Tally()
        train: list[Truth] = []
        validation: list[Truth] = []
        for example, truth in self._truths(recipe, tally):
            split = split_of(example, share=recipe.data.validation_share)
            if split != "test":
                (train if split == "train" else validation).append(truth)
        lessons = self._lessons(train, loaded, recipe, tally)
        checked = self._lessons(validation, loaded, recipe, tally)
        for kind, count in tally.counts.items():
            logger.warning("%s: %d × %s", self.path, count, kind.value)
        if not len(lessons):
            raise TrainingError(f"{self.path}: no image is left to learn from")
        return Course(lessons, checked if len(checked) else None, workers=self.workers)

    def _truths(self, recipe: Recipe, tally: Tally) -> Iterator[tuple[Example, Truth]]:
        """The images of which all is known that the recipe asks; the others are counted, by reason."""
        left_out: Counter[str] = Counter()
        for example in opened(read_dataset(self.dataset, self.path, tally), tally):
            one = agreed(example, recipe.data.boxes, recipe.data.labels)
            reason = unknown(one, recipe.tasks)
            if one.image is None or one.size is None:
                reason = "the file is not there"
            if reason:
                left_out[reason] += 1
            elif one.image is not None and one.size is not None:
                columns, rows = one.size
                placed = tuple(
                    (finding.label, in_fractions(finding.box, columns, rows)) for finding in one.findings
                )
                diagnoses = one.labels[AGREED].difference(LOCAL_LABELS)
                yield example, Truth(one.image_id, one.image, placed, diagnoses)
        for reason, count in left_out.items():
            logger.warning("%s: %d images are left out: %s", self.path, count, reason)

    def _lessons(
        self, truths: Sequence[Truth], loaded: LiteGPT, recipe: Recipe, tally: Tally
    ) -> DatasetLessons:
        different = list(dict.fromkeys(loaded.preprocessings))
        squares = [self._decoded([truth.file for truth in truths], one.size) for one in different]
        for each in squares:
            each.report(tally)
        kept = sorted(set(range(len(truths))).intersection(*(each.present for each in squares)))
        if len(kept) < len(truths):
            # Once more without the images that cannot be decoded; the others are found in the cache.
            return self._lessons([truths[place] for place in kept], loaded, recipe, Tally())
        tokens = self._encoded(loaded, squares[0]) if recipe.data.cache_tokens and truths else None
        return DatasetLessons(truths, squares, tokens, [_length(truth, loaded, recipe) for truth in truths])

    def _decoded(self, files: Sequence[Path], size: int) -> Squares:
        """The display images; where several processes train, the first one decodes for all."""
        cache, processes = DisplayCache(self.caches, size), PartialState()
        with processes.main_process_first():
            if processes.is_main_process:
                return cache.fill(files, self.workers, self.progress)
            return cache.find(files)

    def _encoded(self, loaded: LiteGPT, squares: Squares) -> Tokens:
        cache, processes = TokenCache(self.caches, encoders_fingerprint(loaded)), PartialState()
        device = next(loaded.model.parameters()).device.type
        with processes.main_process_first():
            return cache.fill(loaded, squares, _TOKENS_AT_ONCE, device, self.progress)


def unknown(example: Example, tags: Iterable[str]) -> str:
    """Why an image cannot teach these prompts; empty if it can.

    Args:
        example: After its readers agreed.
        tags: Of the prompts.
    """
    said = example.labels[AGREED]
    placed = {finding.label for finding in example.findings}
    for tag in tags:
        if tag in (IDENTIFY, GROUNDING) and said.intersection(LOCAL_LABELS) - placed:
            return "a finding has no box"
        if tag in (VQA, GROUNDING) and not example.judged.issuperset(DIAGNOSES):
            return "nobody looked for diagnoses"
        if tag in (VQA, GROUNDING) and not said.intersection(DIAGNOSES):
            return "no diagnosis was given, not even No finding"
    return ""


def _length(truth: Truth, loaded: LiteGPT, recipe: Recipe) -> int:
    """Tokens of all answers of an image."""
    lesson = Lesson(truth.name, (), truth.boxes, truth.diagnoses)
    answers = [lesson.answer(tag) for tag in recipe.tasks]
    return sum(len(loaded.tokenizer.encode(answer, add_special_tokens=False)) for answer in answers)
