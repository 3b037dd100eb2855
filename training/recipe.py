"""Recipes: how a stage is trained, as a YAML file that a person reads.

A recipe says all that decides what a stage learns, apart from the model it starts from and the data. The
shipped ones lie in ``training/recipes``; ``read_recipe("paper/grounding")`` finds them by name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from training.errors import TrainingError

RECIPES: Final = Path(__file__).parent / "recipes"

Tag = Literal["identify", "grounding", "vqa"]
Part = Literal["encoders", "projection", "language_model", "adapter"]

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(gt=0, le=1)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Task(_Section):
    """One of the prompts that a stage teaches.

    Attributes:
        weight: Of its loss.
        share: Part of each batch that learns it, from the batch's first image on.
        instructions: ``plain``: the one that the model folder asks with. ``pool``: drawn anew for each batch
            from the published pool. Any other text: that one, which the model folder then keeps for this tag.
    """

    weight: Positive = 1.0
    share: Share = 1.0
    instructions: str = "plain"


class Optimiser(_Section):
    """How the weights are changed.

    Attributes:
        kind: ``adamw``, as published; ``muon``: Muon for the hidden matrices of what is trained whole, AdamW
            for all else.
        peak: Highest learning rate; Muon's is ``muon_factor`` times as much.
        warm_up_from: Rate of the first step.
        end: Rate of the last step.
        warm_up_steps: Steps from ``warm_up_from`` to ``peak``, in a straight line; then a cosine, counted
            from step 0, falls to ``end``.
        betas: AdamW's.
        weight_decay: Of tensors with two dimensions or more.
        clip_norm: Largest norm of all gradients together; none: they are taken as they are.
        encoder_factor: The encoders' rate against that of the rest.
        muon_factor: Muon's rate against AdamW's.
    """

    kind: Literal["adamw", "muon"] = "adamw"
    peak: Positive
    warm_up_from: NotNegative = 0.0
    end: NotNegative = 0.0
    warm_up_steps: Annotated[int, Field(ge=0)] = 0
    betas: tuple[Share, Share] = (0.9, 0.999)
    weight_decay: NotNegative = 0.0
    clip_norm: Positive | None = None
    encoder_factor: Positive = 1.0
    muon_factor: Positive = 3.0


class Adapter(_Section):
    """The LoRA adapter that is added where the model has none yet."""

    rank: Annotated[int, Field(ge=1)] = 64
    alpha: Annotated[int, Field(ge=1)] = 16
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.05


class Data(_Section):
    """What is made of a dataset.

    Attributes:
        boxes, labels: How several readers of an image become one, see ``training.agreement``.
        validation_share: Part of the patients that is held back, where the dataset has no validation split.
        sampler: ``shuffled``: each image once an epoch. ``balanced``: images of rare labels more often.
        by_length: Whether answers of like length share a batch, so that little of it is padding.
        cache_tokens: Whether the encoders' tokens are computed once and kept on disk; they must be frozen.
    """

    boxes: Literal["first", "wbf", "majority", "all"] = "first"
    labels: Literal["union", "majority"] = "union"
    validation_share: Annotated[float, Field(ge=0, lt=1)] = 0.05
    sampler: Literal["shuffled", "balanced"] = "shuffled"
    by_length: bool = True
    cache_tokens: bool = False


class Recipe(_Section):
    """One stage of training.

    Attributes:
        stage: What it is called.
        description: For people.
        trains: The parts of the model that learn; all others are frozen. ``language_model`` is all of it,
            ``adapter`` its LoRA.
        tasks: By tag, the prompts that are taught.
        dense: Weight of the dense task that teaches encoders from nothing (``training.dense``).
        number_sigma: Width, in grid steps, of the soft targets of a box's numbers; 0: plain cross-entropy.
            Only where the tokenizer has a token for each number.
        epochs: How often the data are seen.
        steps_per_epoch: Steps of an epoch; none: as many as it takes to see each image once.
        batch_size: Images a step, over all processes and accumulated batches.
        accumulation: Batches that a step is made of.
        precision: Of the computation; weights that learn are kept in float32.
        gradient_checkpointing: Compute the language model's activations twice and keep few of them.
        validate_every_steps: How often the validation images are measured.
        validation_images: At most so many of them.
        checkpoint_every_steps: How much a killed run loses at most.
        seed: Everything random follows from it.
    """

    stage: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")]
    description: str = ""
    trains: tuple[Part, ...]
    tasks: Mapping[Tag, Task] = {}
    dense: NotNegative = 0.0
    number_sigma: NotNegative = 0.0
    epochs: Annotated[int, Field(ge=1)] = 1
    steps_per_epoch: Annotated[int, Field(ge=1)] | None = None
    batch_size: Annotated[int, Field(ge=1)]
    accumulation: Annotated[int, Field(ge=1)] = 1
    precision: Literal["bf16", "fp32"] = "bf16"
    gradient_checkpointing: bool = False
    validate_every_steps: Annotated[int, Field(ge=1)] = 500
    validation_images: Annotated[int, Field(ge=1)] = 200
    checkpoint_every_steps: Annotated[int, Field(ge=1)] = 200
    seed: Annotated[int, Field(ge=0)] = 42
    optimiser: Optimiser
    adapter: Adapter = Adapter()
    data: Data = Data()

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if not self.trains:
            raise ValueError("trains: nothing would learn")
        if not self.tasks and not self.dense:
            raise ValueError("tasks: there is nothing to learn; name a task, or give dense a weight")
        if self.dense and "encoders" not in self.trains:
            raise ValueError("dense: the dense task teaches encoders, which this recipe freezes")
        if {"adapter", "language_model"} <= set(self.trains):
            raise ValueError("trains: adapter or language_model, not both")
        if not self.tasks and set(self.trains) != {"encoders"}:
            raise ValueError("trains: without tasks only the encoders learn")
        if self.data.cache_tokens and "encoders" in self.trains:
            raise ValueError("data.cache_tokens: the encoders learn, so their tokens change")
        if self.batch_size % self.accumulation:
            raise ValueError(
                f"batch_size: {self.batch_size} cannot be split into {self.accumulation} batches"
            )
        return self

    @property
    def digest(self) -> str:
        """Differs for recipes that could lead to different weights."""
        values = self.model_dump(mode="json", exclude={"description"})
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]

    def with_values(self, values: Mapping[str, Any]) -> Recipe:
        """The same recipe with other values; ``{"optimiser.peak": 1e-4}`` reaches into sections.

        Raises:
            TrainingError: If there is no such value, or it makes no sense.
        """
        changed = self.model_dump(mode="json")
        for path, value in values.items():
            *sections, name = path.split(".")
            section = changed
            for part in sections:
                inner = section.get(part)
                section = section.setdefault(part, {}) if inner is None else inner
                if not isinstance(section, dict):
                    raise TrainingError(f"a recipe has no value {path}")
            section[name] = value
        return recipe_of(changed, f"recipe {self.stage} with other values")


def read_recipe(name: str | Path) -> Recipe:
    """Reads a recipe.

    Args:
        name: A YAML file, or the name of a shipped one, as ``paper/grounding``.

    Raises:
        TrainingError: If there is none, or it is no recipe; one line that names the value.
    """
    file = recipe_file(name)
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingError(f"{file} cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise TrainingError(f"{file} is no YAML: {' '.join(str(error).split())}") from None
    return recipe_of(values, str(file))


def recipe_file(name: str | Path) -> Path:
    """The file of a recipe: itself, or the shipped one of that name.

    Raises:
        TrainingError: If there is neither.
    """
    shipped = RECIPES / f"{name}.yaml"
    for file in (Path(name), shipped):
        if file.is_file():
            return file
    raise TrainingError(
        f"there is no recipe {name}: it is no file, and shipped are {', '.join(shipped_recipes())}"
    )


def shipped_recipes() -> list[str]:
    """The names of the recipes that ship with the package."""
    names = [str(file.relative_to(RECIPES).with_suffix("")) for file in RECIPES.rglob("*.yaml")]
    return sorted(name for name in names if not name.startswith("study/"))


def recipe_of(values: Any, source: str) -> Recipe:
    """Checks what was read.

    Raises:
        TrainingError: One line that names the first value that makes no sense.
    """
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        words = first["msg"].removeprefix("Value error, ")
        raise TrainingError(f"{source}: {f'{place}: ' if place else ''}{words}") from None
