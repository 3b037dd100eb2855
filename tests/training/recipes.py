"""Recipes for tests: the shipped ones, in a few steps of a few images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from litegpt.model_folder import LiteGPT
from training.course import Course
from training.loop import Run
from training.phantom_course import phantom_course
from training.recipe import Recipe, read_recipe
from training.run_folder import RunFolder
from training.training_log import Progress


def short(name: str, **values: Any) -> Recipe:
    """A shipped recipe in three steps of four images; sections are reached by ``__``."""
    few = {
        "steps_per_epoch": 3,
        "batch_size": 4,
        "validation_images": 4,
        "validate_every_steps": 2,
        "checkpoint_every_steps": 2,
        "optimiser.warm_up_steps": 1,
        "data.by_length": False,
    }
    return read_recipe(f"phantom/{name}").with_values(
        {**few, **{key.replace("__", "."): value for key, value in values.items()}}
    )


def ignore(progress: Progress) -> None:
    """Looks at nothing but that there is a loss."""
    assert progress.loss == progress.loss


def new_run(
    loaded: LiteGPT, recipe: Recipe, path: Path, *, resume: bool = False, course: Course | None = None
) -> Run:
    """A run on the CPU, its folder begun."""
    folder = RunFolder(path)
    folder.begin(recipe, "test", "phantoms", resume=resume)
    return Run(loaded, recipe, course or phantom_course(loaded, recipe), folder, device="cpu")


def parts(loaded: LiteGPT) -> dict[str, dict[str, torch.Tensor]]:
    """The weights by the part of the model that they belong to."""
    state = {name: tensor.clone() for name, tensor in loaded.model.state_dict().items()}
    return {
        "encoders": {name: state[name] for name in state if name.startswith("encoders.")},
        "projection": {name: state[name] for name in state if name.startswith("projection")},
        "adapter": {name: state[name] for name in state if "lora_" in name},
        "language model": {
            name: state[name] for name in state if name.startswith("language_model") and "lora_" not in name
        },
    }
