"""The model that a stage starts from, made ready to learn what the recipe teaches."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from litegpt.language_model import lora_config
from litegpt.model_folder import LiteGPT, add_adapter
from training.errors import TrainingError
from training.recipe import Recipe
from training.run_folder import model_of


def load_start(start: Path, recipe: Recipe, *, version: str | None = None, device: str = "cpu") -> LiteGPT:
    """Loads a model folder, or a run's best one, with an adapter where the recipe trains one.

    The operating point is dropped: it belongs to the weights that it was measured with.

    Args:
        start: A model folder or the folder of a run.
        recipe: What is going to be trained.
        version: The new model's version; default: that of the start.
        device: Where to; on a GPU the frozen weights are bfloat16.

    Raises:
        ModelError: If the model cannot be loaded.
        TrainingError: If the recipe wants all of a language model that has an adapter.
    """
    half = recipe.precision == "bf16" and device != "cpu"
    loaded = LiteGPT.from_pretrained(
        model_of(start), merge=False, dtype=torch.bfloat16 if half else torch.float32, device=device
    )
    has_adapter = loaded.config.has_adapter
    if has_adapter and "language_model" in recipe.trains:
        raise TrainingError(
            f"{start} has an adapter already: all of its language model cannot be trained any more"
        )
    if not has_adapter and "adapter" in recipe.trains:
        adapter = recipe.adapter
        torch.manual_seed(recipe.seed)  # the adapter's first half begins at random
        add_adapter(loaded.model, lora_config(adapter.rank, adapter.alpha, adapter.dropout))
        has_adapter = True
    identity = loaded.config.identity
    config = dataclasses.replace(
        loaded.config,
        identity=dataclasses.replace(identity, version=version or identity.version),
        has_adapter=has_adapter,
        ordered_answers=loaded.config.ordered_answers or bool(recipe.tasks),
        instructions={**loaded.config.instructions, **_own_instructions(recipe)},
        operating_point=None,
    )
    return dataclasses.replace(loaded, config=config)


def _own_instructions(recipe: Recipe) -> dict[str, str]:
    """By tag, the texts that the recipe itself asks with."""
    texts = {tag: task.instructions for tag, task in recipe.tasks.items()}
    return {str(tag): text for tag, text in texts.items() if text not in ("plain", "pool")}
