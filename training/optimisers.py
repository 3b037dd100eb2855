"""Muon for the hidden matrices, AdamW for the rest, one schedule for both."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from litegpt.model import LiteGPTNetwork
from training.dense import DenseHead
from training.stages import Stage

_MUON_FACTOR = 3.0
_ENCODER_FACTOR = 0.6
_WARM_UP_STEPS = 100
_LAST_RATE = 0.02
_WEIGHT_DECAY = 0.03


class Optimisers:
    """The optimisers of one stage and their common learning rate.

    Muon (orthogonalised momentum) reaches the same loss in about half the images on these small networks;
    embeddings, vectors, biases and LoRA's thin matrices are not for it.
    """

    def __init__(self, stage: Stage, model: LiteGPTNetwork, head: DenseHead) -> None:
        self._stage = stage
        self.parameters: list[nn.Parameter] = []
        matrices: list[dict[str, object]] = []
        others: list[dict[str, object]] = []
        for modules, factor in _trained(stage, model, head):
            named = [item for module in modules for item in module.named_parameters()]
            trained = {name: parameter for name, parameter in named if parameter.requires_grad}
            hidden = [
                p for name, p in trained.items() if stage.trains_encoders and _is_hidden_matrix(name, p)
            ]
            rest = [p for p in trained.values() if all(p is not known for known in hidden)]
            self.parameters += [*hidden, *rest]
            if hidden:
                matrices.append({"params": hidden, "factor": factor * _MUON_FACTOR})
            if rest:
                others.append({"params": rest, "factor": factor})
        self._optimisers: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(others, betas=(0.9, 0.98), weight_decay=_WEIGHT_DECAY)
        ]
        if matrices:
            self._optimisers.append(
                torch.optim.Muon(
                    matrices, momentum=0.95, weight_decay=_WEIGHT_DECAY, adjust_lr_fn="match_rms_adamw"
                )
            )

    def step(self, step: int, progress: float) -> float:
        """Clips, takes one step at the rate for this progress (0..1), clears gradients; returns the rate."""
        rate = self._stage.learning_rate * min(1.0, (step + 1) / _WARM_UP_STEPS)
        rate *= _LAST_RATE + (1 - _LAST_RATE) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for optimiser in self._optimisers:
            for group in optimiser.param_groups:
                group["lr"] = rate * group["factor"]
            optimiser.step()
            optimiser.zero_grad()
        return rate


def choose_trained(stage: Stage, model: LiteGPTNetwork) -> None:
    """Freezes and unfreezes the model's parts as the stage says."""
    model.encoders.requires_grad_(stage.trains_encoders)
    model.projection.requires_grad_(stage.trains_answers)
    for name, parameter in model.language_model.named_parameters():
        is_adapter = "lora_" in name
        parameter.requires_grad_(stage.trains_answers and (stage.trains_language_model or is_adapter))


def _trained(
    stage: Stage, model: LiteGPTNetwork, head: DenseHead
) -> Iterable[tuple[tuple[nn.Module, ...], float]]:
    if stage.trains_encoders:
        yield (model.encoders, head), _ENCODER_FACTOR if stage.trains_answers else 1.0
    if stage.trains_answers:
        yield (model.projection, model.language_model), 1.0


def _is_hidden_matrix(name: str, parameter: nn.Parameter) -> bool:
    return parameter.ndim == 2 and "embed" not in name and "lm_head" not in name
