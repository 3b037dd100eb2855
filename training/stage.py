"""One stage from the command line: a model folder, a recipe and data in; a run's folder out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from accelerate import PartialState

from litegpt.model_folder import LiteGPT
from training.architecture import PAIR, new_phantom_model
from training.course import Course
from training.errors import TrainingError
from training.loop import Report, Run, never
from training.phantom_course import phantom_course
from training.recipe import Recipe
from training.run_folder import RunFolder, dense_head_of
from training.start import load_start


@dataclass(frozen=True, slots=True)
class Material:
    """What a stage learns from.

    Attributes:
        name: As on the command line, ``phantoms`` or a dataset's name and path; a run keeps to it.
        course: Makes the course for a model.
    """

    name: str
    course: Callable[[LiteGPT, Recipe], Course]


PHANTOMS = Material("phantoms", phantom_course)


def train_stage(
    out: Path,
    recipe: Recipe,
    *,
    start: Path | None,
    material: Material = PHANTOMS,
    resume: bool = False,
    version: str | None = None,
    device: str = "auto",
    encoders: Sequence[str] = PAIR,
    report: Report,
    stop: Callable[[], bool] = never,
) -> bool:
    """Trains one stage.

    Args:
        out: The run's folder.
        recipe: How.
        start: A model folder or the folder of an earlier run; None: the phantom preset with random weights.
        material: What it learns from.
        resume: Go on with the run in ``out``.
        version: The new model's version; default: that of the start.
        device: ``cpu``, or ``auto`` for a GPU where there is one.
        encoders: Of the phantom preset, where it starts from random weights.
        report: Told after each step.
        stop: Asked after each step whether to stop.

    Returns:
        Whether the end was reached.

    Raises:
        TrainingError: If the run cannot start, or a loss is no number any more.
        ModelError: If the model cannot be loaded.
    """
    processes = PartialState(cpu=device == "cpu")
    folder = RunFolder(out)
    with processes.main_process_first():
        started = "random weights" if start is None else str(start)
        # The others find the run that the first process has begun.
        folder.begin(recipe, started, material.name, resume=resume or not processes.is_main_process)
    device_here = str(processes.device)
    loaded = starting_model(start, recipe, version=version, device=device_here, encoders=encoders)
    head = None if start is None else dense_head_of(start)
    course = material.course(loaded, recipe)
    run = Run(loaded, recipe, course, folder, dense_head=head, device=device)
    return run.train(report=report, stop=stop)


def starting_model(
    start: Path | None,
    recipe: Recipe,
    *,
    version: str | None = None,
    device: str = "cpu",
    encoders: Sequence[str] = PAIR,
) -> LiteGPT:
    """The model that a stage starts from; arguments as of ``train_stage``.

    Raises:
        TrainingError: If it does not fit the recipe.
        ModelError: If it cannot be loaded.
    """
    if start is not None:
        return load_start(start, recipe, version=version, device=device)
    if "adapter" in recipe.trains:
        raise TrainingError(
            f"stage {recipe.stage} trains an adapter: it needs a model to start from (--from)"
        )
    return new_phantom_model(recipe.seed, encoders)
