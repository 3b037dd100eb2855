"""Greedy decoding of questions about images: one prefill of what they share, a cache that shrinks.

    prefix    [INST] <Img> image                once for each image
    suffix    </Img> [identify] … [/INST]       } for each question, padded on the left
              </Img> [vqa] … [/INST]            }
    answers   token by token; rows that have ended leave the batch every few steps
    trees     or many possible answers at once (``litegpt.token_tree``)

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
from litegpt.token_tree import TreeBatch

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


class Prefix:
    """What all questions about some images begin with, taken in once."""

    def __init__(self, language_model: nn.Module, embeddings: torch.Tensor) -> None:
        """Args:
        language_model: A causal language model of transformers.
        embeddings: (images, prefix, embedding).
        """
        self._model = _Model(language_model)
        self.vocabulary = self._model.vocabulary
        self.images, self._length, _ = embeddings.shape
        self._device, self._dtype = embeddings.device, embeddings.dtype
        self._layers = self._model.empty_layers()
        self._model(self._layers, inputs_embeds=embeddings, attention_mask=None)

    def ask(self, images: Sequence[int], suffixes: Sequence[Sequence[int]]) -> Decoder:
        """Starts answers.

        Args:
            images: Which image each row is about.
            suffixes: Token ids of each row after the prefix.
        """
        longest = max(map(len, suffixes))
        ids = torch.tensor([[0] * (longest - len(suffix)) + list(suffix) for suffix in suffixes])
        padding = torch.tensor([[longest - len(suffix)] for suffix in suffixes]).to(self._device)  # (rows, 1)
        start = self._length
        keys = torch.arange(start + longest, device=self._device)  # (prefix + longest,)
        present = (keys < start) | (keys >= start + padding)  # (rows, prefix + longest)
        causal = keys <= keys[start:, None]  # (longest, prefix + longest)
        positions = (keys[start:] - padding).clamp(min=start)  # (rows, longest)
        layers = self._rows(images)
        logits = self._model(
            layers,
            input_ids=ids.to(self._device),
            attention_mask=_additive(present[:, None] & causal, self._dtype),
            position_ids=positions,
        )
        return Decoder(self._model, layers, logits[:, -1], present, positions[:, -1:] + 1)

    def force(self, images: Sequence[int], trees: TreeBatch, first: int = 0) -> torch.Tensor:
        """Teacher-forces a tree of tokens about each image.

        Args:
            images: Which image each row is about.
            trees: As many rows of tokens.
            first: The first node whose logits are wanted.

        Returns:
            (rows, nodes - first, vocabulary) logits after each node.
        """
        visible = nn.functional.pad(trees.visible, (self._length, 0), value=True)
        return self._model(
            self._rows(images),
            keep=trees.ids.shape[1] - first,
            input_ids=trees.ids.to(self._device),
            attention_mask=_additive(visible.to(self._device), self._dtype),
            position_ids=self._length + trees.depths.to(self._device),
        )

    def _rows(self, images: Sequence[int]) -> list[_GrowingLayer]:
        """The cache of these images; the prefix's own stays as it is."""
        rows = torch.tensor(images, device=self._device)
        return [layer.of(rows) for layer in self._layers]


class Decoder:
    """Answers that have been asked for. ``generate`` once."""

    def __init__(
        self,
        model: _Model,
        layers: list[_GrowingLayer],
        logits: torch.Tensor,
        present: torch.Tensor,
        position: torch.Tensor,
    ) -> None:
        """Args:
        model: The language model.
        layers: Its cache with the prompts.
        logits: (rows, vocabulary) of the first token.
        present: (rows, prompt) which tokens of the prompts are no padding.
        position: (rows, 1) of the first token.
        """
        self._model = model
        self._layers = layers
        self._logits = logits
        self._present = present
        self._position = position

    def generate(self, chooser: Chooser, *, budget: int, pad: int) -> Decoded:
        """Goes on until all answers have ended.

        Args:
            chooser: Chooses the tokens, for as many rows.
            budget: Longest answer in tokens, EOS included.
            pad: Token id after an answer's end.
        """
        logits = self._logits
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
            logits = self._model(
                self._layers, input_ids=tokens[:, None], attention_mask=mask, position_ids=self._position
            )[:, -1]  # (alive, vocabulary)
            self._position = self._position + 1
        return Decoded(ids[:, :said], probabilities[:, :said], failed)

    def _keep(self, rows: torch.Tensor) -> None:
        self._position = self._position[rows]
        for layer in self._layers:
            layer.keep(rows)


class _Model:
    """A causal language model of transformers with a cache of ours."""

    def __init__(self, language_model: nn.Module) -> None:
        self._model = cast(Any, language_model)
        # transformers 5 renamed the argument on its way.
        names = inspect.signature(self._model.forward).parameters
        self._cache_argument = "cache" if "cache" in names else "past_key_values"
        self.vocabulary = int(self._model.config.vocab_size)

    def empty_layers(self) -> list[_GrowingLayer]:
        """A cache without tokens."""
        return [_GrowingLayer() for _ in range(self._model.config.num_hidden_layers)]  # type: ignore[no-untyped-call]

    def __call__(self, layers: list[_GrowingLayer], *, keep: int = 1, **inputs: Any) -> torch.Tensor:
        """Appends tokens to the cache; returns the logits of the last ones, (rows, keep, vocabulary)."""
        inputs[self._cache_argument] = Cache(layers=list(layers))
        output = self._model(use_cache=True, logits_to_keep=keep, **inputs)
        return cast(torch.Tensor, output.logits)


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

    def of(self, rows: torch.Tensor) -> _GrowingLayer:
        """A copy of these rows, some perhaps several times."""
        copy = _GrowingLayer()  # type: ignore[no-untyped-call]
        copy.device, copy.is_initialized = self.device, True
        copy._key_memory, copy._value_memory = self._key_memory[rows], self._value_memory[rows]
        copy._show(self.get_seq_length())
        return copy

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
