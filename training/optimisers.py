"""What learns in a stage, and by which rule."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from litegpt.model import LiteGPTNetwork
from training.dense import DenseHead
from training.errors import TrainingError
from training.recipe import Recipe
from training.schedule import learning_rate


def choose_trained(recipe: Recipe, model: LiteGPTNetwork) -> None:
    """Freezes and unfreezes the model's parts as the recipe says; what learns becomes float32.

    Raises:
        TrainingError: If the recipe trains an adapter and the model has none.
    """
    model.encoders.requires_grad_("encoders" in recipe.trains)
    model.projection.requires_grad_("projection" in recipe.trains)
    names = [name for name, _ in model.language_model.named_parameters()]
    if "adapter" in recipe.trains and not any("lora_" in name for name in names):
        raise TrainingError("the recipe trains an adapter, but the model has none")
    for name, parameter in model.language_model.named_parameters():
        part = "adapter" if "lora_" in name else "language_model"
        parameter.requires_grad_(part in recipe.trains)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


class Optimisers:
    """The optimisers of one stage and their common schedule.

    Muon (orthogonalised momentum) reaches the same loss in about half the images on the phantom's small
    networks; embeddings, vectors, biases and LoRA's thin matrices are not for it.
    """

    def __init__(self, recipe: Recipe, model: LiteGPTNetwork, head: DenseHead | None) -> None:
        """Args:
        recipe: The stage's.
        model: After ``choose_trained``.
        head: Of the dense task, which learns with the encoders.
        """
        self._optimiser = recipe.optimiser
        self.parameters: list[nn.Parameter] = []
        matrices: list[dict[str, Any]] = []
        others: list[dict[str, Any]] = []
        for module, factor in _modules(recipe, model, head):
            named = {name: p for name, p in module.named_parameters() if p.requires_grad}
            whole = recipe.optimiser.kind == "muon" and not any("lora_" in name for name in named)
            hidden = [p for name, p in named.items() if whole and _is_hidden_matrix(name, p)]
            taken = {id(p) for p in hidden}
            rest = [p for p in named.values() if id(p) not in taken]
            self.parameters += [*hidden, *rest]
            matrices += _group(hidden, factor * recipe.optimiser.muon_factor, recipe.optimiser.weight_decay)
            others += _group([p for p in rest if p.ndim >= 2], factor, recipe.optimiser.weight_decay)
            others += _group([p for p in rest if p.ndim < 2], factor, 0.0)
        self.each: list[torch.optim.Optimizer] = []
        if others:
            self.each.append(torch.optim.AdamW(others, lr=0.0, betas=recipe.optimiser.betas))
        if matrices:
            self.each.append(
                torch.optim.Muon(matrices, lr=0.0, momentum=0.95, adjust_lr_fn="match_rms_adamw")
            )

    def clip(self) -> torch.Tensor:
        """Clips the gradients as the recipe says.

        Returns:
            The norm of all of them before that.
        """
        limit = self._optimiser.clip_norm or float("inf")
        return torch.nn.utils.clip_grad_norm_(self.parameters, limit)

    def step(self, step: int, steps: int) -> float:
        """Takes one step at the schedule's rate and clears the gradients; returns the rate."""
        rate = learning_rate(self._optimiser, step, steps)
        for optimiser in self.each:
            for group in optimiser.param_groups:
                group["lr"] = rate * group["factor"]
            optimiser.step()
            optimiser.zero_grad()
        return rate

    def state(self) -> list[Mapping[str, Any]]:
        """Everything to go on from."""
        return [optimiser.state_dict() for optimiser in self.each]

    def load_state(self, states: Iterable[Mapping[str, Any]]) -> None:
        """Goes on from ``state``."""
        for optimiser, state in zip(self.each, states, strict=True):
            optimiser.load_state_dict(dict(state))


def _modules(
    recipe: Recipe, model: LiteGPTNetwork, head: DenseHead | None
) -> Iterable[tuple[nn.Module, float]]:
    factor = recipe.optimiser.encoder_factor
    yield model.encoders, factor
    if head is not None:
        yield head, factor
    yield model.projection, 1.0
    yield model.language_model, 1.0


def _group(parameters: list[nn.Parameter], factor: float, decay: float) -> list[dict[str, Any]]:
    return [{"params": parameters, "factor": factor, "weight_decay": decay}] if parameters else []


def _is_hidden_matrix(name: str, parameter: nn.Parameter) -> bool:
    return parameter.ndim == 2 and "embed" not in name and "lm_head" not in name
