"""Greedy decoding of several prompts about the same images: one common prefill, a cache that shrinks.

    prefix    [INST] <Img> image                once for each image
    suffix    </Img> [identify] … [/INST]       } for each image and prompt, padded on the left
              </Img> [vqa] … [/INST]            }
    answers   token by token; rows that have ended leave the batch every few steps

transformers' models do the arithmetic; only the loop and the cache are ours.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import torch
from torch import nn
from transformers.cache_utils import Cache, DynamicLayer

from litegpt.constraint import Chooser

_BLOCK: Final = 64
"""Tokens by which the cache grows."""

_STEPS_BETWEEN_LOOKS: Final = 4
"""To see which answers have ended the host has to wait for the device; not at every step."""

_WORTH_SHRINKING: Final = 0.8
"""Rows are only dropped when no more than this part remains: it copies the cache."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """The answers of all rows.

    Attributes:
        ids: (rows, longest) token ids, padded after EOS.
        probabilities: (rows, longest) of each token, as its chooser counts them.
        failed: (rows,) whose logits became NaN or infinite.
    """

    ids: torch.Tensor
    probabilities: torch.Tensor
    failed: torch.Tensor


class AnswerDecoder:
    """Answers the questions about one batch of images. ``prefill`` first, then ``generate``, once."""

    def __init__(self, language_model: nn.Module) -> None:
        model = cast(Any, language_model)
        self._model = model
        self._layers = [_GrowingLayer() for _ in range(model.config.num_hidden_layers)]  # type: ignore[no-untyped-call]
        self._cache = Cache(layers=list(self._layers))
        # transformers 5 renamed the argument on its way.
        names = inspect.signature(model.forward).parameters
        self._cache_argument = "cache" if "cache" in names else "past_key_values"

    def prefill(self, prefix: torch.Tensor, suffixes: Sequence[torch.Tensor]) -> torch.Tensor:
        """Takes in the prompts.

        Args:
            prefix: (batch, prefix, embedding), what all prompts begin with.
            suffixes: For each prompt, (1, length, embedding), what follows.

        Returns:
            (prompts · batch, vocabulary) logits of the first token, prompt by prompt.
        """
        batch, start, _ = prefix.shape
        self._forward(inputs_embeds=prefix, attention_mask=None)
        for layer in self._layers:
            layer.repeat(len(suffixes))
        longest = max(suffix.shape[1] for suffix in suffixes)
        padded = [nn.functional.pad(suffix, (0, 0, longest - suffix.shape[1], 0)) for suffix in suffixes]
        inputs = torch.cat(padded).repeat_interleave(batch, dim=0)  # (rows, longest, embedding)
        lengths = torch.tensor([suffix.shape[1] for suffix in suffixes], device=prefix.device)
        padding = (longest - lengths).repeat_interleave(batch)  # (rows,)
        keys = torch.arange(start + longest, device=prefix.device)  # (prefix + longest,)
        self._present = (keys < start) | (keys >= start + padding[:, None])  # (rows, prefix + longest)
        causal = keys <= keys[start:, None]  # (longest, prefix + longest)
        positions = (keys[start:] - padding[:, None]).clamp(min=start)  # (rows, longest)
        logits = self._forward(
            inputs_embeds=inputs,
            attention_mask=_additive(self._present[:, None] & causal, prefix.dtype),
            position_ids=positions,
        )
        self._position = positions[:, -1:] + 1  # (rows, 1)
        return logits

    def generate(self, logits: torch.Tensor, chooser: Chooser, *, budget: int, pad: int) -> Decoded:
        """Goes on from ``prefill`` until all answers have ended.

        Args:
            logits: What ``prefill`` returned.
            chooser: Chooses the tokens, for as many rows.
            budget: Longest answer in tokens, EOS included.
            pad: Token id after an answer's end.
        """
        rows, device = len(logits), logits.device
        ids = torch.full((rows, budget), pad, device=device)
        probabilities = torch.zeros(rows, budget, device=device)
        failed = torch.zeros(rows, dtype=torch.bool, device=device)
        kept = torch.arange(rows, device=device)  # (alive,) which rows the batch still holds
        mask = _additive(self._present[:, None, None], logits.dtype)  # (rows, 1, 1, prompt)
        said = 0
        for said in range(1, budget + 1):
            choice = chooser.choose(logits, budget - said + 1)
            tokens = choice.tokens  # (alive,)
            ids[kept, said - 1] = tokens
            probabilities[kept, said - 1] = choice.probabilities
            failed[kept] |= choice.failed
            if said == budget:
                break
            if said % _STEPS_BETWEEN_LOOKS == 0:
                alive = (~chooser.ended).nonzero()[:, 0]  # (alive,)
                if not len(alive):
                    break
                if len(alive) <= _WORTH_SHRINKING * len(kept):
                    chooser.keep(alive)
                    self._keep(alive)
                    kept, mask, tokens = kept[alive], mask[alive], tokens[alive]
            mask = nn.functional.pad(mask, (0, 1))
            logits = self._forward(
                input_ids=tokens[:, None], attention_mask=mask, position_ids=self._position
            )
            self._position = self._position + 1
        return Decoded(ids[:, :said], probabilities[:, :said], failed)

    def _keep(self, rows: torch.Tensor) -> None:
        self._position = self._position[rows]
        for layer in self._layers:
            layer.keep(rows)

    def _forward(self, **inputs: Any) -> torch.Tensor:
        inputs[self._cache_argument] = self._cache
        output = self._model(use_cache=True, logits_to_keep=1, **inputs)
        return cast(torch.Tensor, output.logits[:, -1])  # (rows, vocabulary)


class _GrowingLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """A layer's keys and values, (rows, heads, tokens, width), in memory that grows by blocks.

    transformers' own dynamic cache copies everything at every step.
    """

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Appends tokens; returns all there are."""
        start = self.get_seq_length()
        if not self.is_initialized:
            self.device = key_states.device
            self._key_memory, self._value_memory = key_states[:, :, :0], value_states[:, :, :0]
            self.is_initialized = True
        end = start + key_states.shape[2]
        missing = end - self._key_memory.shape[2]
        if missing > 0:
            blocks = (0, 0, 0, -(-missing // _BLOCK) * _BLOCK)
            self._key_memory = nn.functional.pad(self._key_memory, blocks)
            self._value_memory = nn.functional.pad(self._value_memory, blocks)
        self._key_memory[:, :, start:end] = key_states
        self._value_memory[:, :, start:end] = value_states
        return self._show(end)

    def repeat(self, times: int) -> None:
        """All rows, then all rows again."""
        self._key_memory = self._key_memory.repeat(times, 1, 1, 1)
        self._value_memory = self._value_memory.repeat(times, 1, 1, 1)
        self._show(self.get_seq_length())

    def keep(self, rows: torch.Tensor) -> None:
        """These rows only."""
        self._key_memory, self._value_memory = self._key_memory[rows], self._value_memory[rows]
        self._show(self.get_seq_length())

    def _show(self, tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
        keys, values = self._key_memory[:, :, :tokens], self._value_memory[:, :, :tokens]
        self.keys, self.values = keys, values
        return keys, values


def _additive(present: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """A mask that every kind of attention understands; (rows, queries, keys) gets its axis for the heads."""
    mask = torch.zeros(present.shape, dtype=dtype, device=present.device)
    mask = mask.masked_fill(~present, torch.finfo(dtype).min)
    return mask if mask.ndim == 4 else mask[:, None]
