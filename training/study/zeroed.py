"""A model that is asked without some of its encoders: their tokens are zero, all else stays as it was."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from litegpt.engine import Engine
from litegpt.grammar import compile_grammar
from litegpt.model import LiteGPTNetwork
from litegpt.model_folder import LiteGPT
from training.errors import TrainingError


def engine_without(model: Path, zeroed: Sequence[int], *, device: str) -> Engine:
    """Loads a model folder, uncalibrated, with some encoders silent.

    Args:
        model: Its folder.
        zeroed: Encoders by their place from 0; none: the model as it is.
        device: As PyTorch names it.

    Raises:
        ModelError: If the model cannot be loaded.
        TrainingError: If it has no such encoder.
    """
    if not zeroed:
        return Engine.load(model, device=device, calibrated=False)
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    loaded = LiteGPT.from_pretrained(model, device=device, dtype=dtype)
    silence(loaded.model, zeroed)
    config = loaded.config
    grammar = compile_grammar(
        loaded.tokenizer, budget=config.max_new_tokens, ordered=config.ordered_answers, device=device
    )
    return Engine(loaded, device, grammar, None)


def silence(network: LiteGPTNetwork, zeroed: Sequence[int]) -> None:
    """Makes these encoders give zeros from now on.

    Raises:
        TrainingError: If there is no such encoder.
    """
    for place in zeroed:
        if place >= len(network.encoders):
            raise TrainingError(f"zeroed: the model has {len(network.encoders)} encoders, none is {place}")
        network.encoders[place].register_forward_hook(_zeros)


def _zeros(module: torch.nn.Module, given: object, tokens: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(tokens)  # (batch, tokens of this encoder, its width)
