"""The phantoms a run learns from: drawn as they are needed, never those that models are tested on."""

from __future__ import annotations

import zlib
from typing import Final

from litegpt.model_folder import LiteGPT
from training.course import Course
from training.errors import TrainingError
from training.lessons import PhantomLessons
from training.phantom.choice import DRAWN_LABELS
from training.recipe import Recipe

_TRAINING: Final = 1
_VALIDATION: Final = 2


def phantom_course(loaded: LiteGPT, recipe: Recipe) -> Course:
    """Phantoms for one run: as many as it has steps for, each seen once, and others to validate by.

    Test sets are phantoms of one number as their seed; these have four, so none is ever among them.

    Raises:
        TrainingError: Where the recipe leaves open how many there are.
    """
    return Course(
        lessons=_phantoms(loaded, recipe, _TRAINING, count_of(recipe)),
        validation=_phantoms(loaded, recipe, _VALIDATION, recipe.validation_images),
    )


def count_of(recipe: Recipe) -> int:
    """How many phantoms the run sees."""
    steps = recipe.epochs * (recipe.steps_per_epoch or 0)
    if not steps:
        raise TrainingError("steps_per_epoch: phantoms have no end, so the recipe has to say how many")
    return steps * recipe.batch_size


def _phantoms(loaded: LiteGPT, recipe: Recipe, use: int, count: int) -> PhantomLessons:
    seed = (recipe.seed, zlib.crc32(recipe.stage.encode()), use)
    return PhantomLessons(seed, count, loaded.preprocessings, drawn_labels=DRAWN_LABELS)
