"""The phantom model from nothing: its encoders, its pre-training, then the paper's two stages; calibrated.

Each stage is a run of its own, in a folder of its own, so what was stopped goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from training.loop import Report, never
from training.recipe import Recipe, read_recipe
from training.run_folder import RunFolder
from training.stage import train_stage
from training.training_log import join_logs

STAGES: Final = ("encoders", "pretraining", "grounding", "diagnosis")
"""Recipes of ``training/recipes/phantom``, in order."""

LOG: Final = "training_log.csv"
"""The logs of all stages, one after the other."""


def train_phantom_model(
    out: Path,
    *,
    seed: int = 0,
    factor: float = 1.0,
    stages: tuple[str, ...] = STAGES,
    version: str | None = None,
    report: Report,
    stop: Callable[[], bool] = never,
) -> Path | None:
    """Trains all stages, or goes on with them.

    Args:
        out: Gets a run's folder for each stage, and their logs as one.
        seed: Added to the recipes' own.
        factor: How many steps, against the recipes.
        stages: Which, in this order; the first starts from random weights.
        version: The model's.
        report: Told after each step.
        stop: Asked after each step whether to stop.

    Returns:
        The last stage's folder; None if it was stopped before.
    """
    start = None
    for stage in stages:
        recipe = scaled(read_recipe(f"phantom/{stage}"), factor, seed)
        folder = out / stage
        if not train_stage(
            folder, recipe, start=start, resume=True, version=version, device="cpu", report=report, stop=stop
        ):
            return None
        start = folder
    join_logs([RunFolder(out / stage) for stage in stages], out / LOG)
    return start


def scaled(recipe: Recipe, factor: float, seed: int = 0) -> Recipe:
    """The same recipe for more or fewer steps, at least one, with another seed."""
    # Without a number of steps an epoch is as long as the data: there are more or fewer epochs.
    length = "epochs" if recipe.steps_per_epoch is None else "steps_per_epoch"
    steps = max(1, round(getattr(recipe, length) * factor))
    every = {name: max(1, round(getattr(recipe, name) * factor)) for name in _EVERY}
    validation = max(_FEW, round(recipe.validation_images * min(1.0, factor)))
    warm_up = round(recipe.optimiser.warm_up_steps * min(1.0, factor))
    return recipe.with_values(
        {
            length: steps,
            "seed": recipe.seed + seed,
            "optimiser.warm_up_steps": warm_up,
            "validation_images": validation,
            **every,
        }
    )


_FEW: Final = 8
"""Images to validate on, however short a run is made."""

_EVERY: Final = ("validate_every_steps", "checkpoint_every_steps")
