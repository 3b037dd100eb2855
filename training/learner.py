"""A model while it learns: from a batch to the losses of what the recipe teaches."""

from __future__ import annotations

import random
from collections.abc import Mapping

import torch
from torch import nn

from litegpt.model_folder import LiteGPT
from litegpt.prompts import INSTRUCTION_POOL, PromptTokens, tokenise_prompt
from litegpt.tokenizer import number_token
from training.batches import IGNORED, Batch
from training.dense import DenseHead, dense_loss, grids_of
from training.losses import answer_loss, near_numbers
from training.recipe import Recipe, Tag

DENSE = "dense"


class Learner(nn.Module):
    """The network with what it needs to learn: prompts, and the dense task's head.

    A module, so that it can be wrapped for several processes: its forward pass is one batch's losses.
    """

    def __init__(self, loaded: LiteGPT, recipe: Recipe) -> None:
        super().__init__()
        self.network = loaded.model
        self.head = DenseHead(_token_width(loaded), grids_of(loaded.model)) if recipe.dense else None
        self._recipe = recipe
        self._preprocessings = loaded.preprocessings
        self._pad = int(loaded.tokenizer.pad_token_id or 0)
        self._prompts = {tag: _prompts(loaded, recipe, tag) for tag in recipe.tasks}
        self._first_number = _first_number(loaded) if recipe.number_sigma else None
        self._near = near_numbers(recipe.number_sigma) if recipe.number_sigma else None

    def forward(self, batch: Batch, seed: int) -> dict[str, torch.Tensor]:
        """The losses by task, unweighted.

        Args:
            batch: On the network's device.
            seed: Decides what is drawn at random in this batch: dropout, and instructions out of a pool.
        """
        torch.manual_seed(seed)
        device = next(self.network.parameters()).device
        with torch.autocast(device.type, torch.bfloat16, enabled=self._recipe.precision == "bf16"):
            return self._losses(batch, seed)

    def _losses(self, batch: Batch, seed: int) -> dict[str, torch.Tensor]:
        tokens = self.visual_tokens(batch)  # (batch, tokens, width)
        losses = {}
        if self.head is not None and batch.dense is not None:
            dense = batch.dense
            losses[DENSE] = dense_loss(self.head, tokens, dense.labels, dense.boxes, dense.diagnoses)
        if batch.answers:
            embeddings = self.network.projection(tokens)  # (batch, 49, embedding)
            for tag, answers in batch.answers.items():
                prompt = random.Random(seed).choice(self._prompts[tag])
                losses[tag] = self._answer_loss(embeddings[: len(answers)], prompt, answers)
        return losses

    def weighted(self, losses: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """What is minimised."""
        weights: dict[str, float] = {tag: task.weight for tag, task in self._recipe.tasks.items()}
        weights[DENSE] = self._recipe.dense
        return torch.stack([weights[name] * loss for name, loss in losses.items()]).sum()

    def visual_tokens(self, batch: Batch) -> torch.Tensor:
        """What the projection gets, (batch, tokens, width): the batch's own, or of its images."""
        if batch.tokens is not None:
            return batch.tokens.float()
        different = list(dict.fromkeys(self._preprocessings))
        normalised = [one.normalise(squares) for one, squares in zip(different, batch.squares, strict=True)]
        images = [
            normalised[different.index(one)] for one in self._preprocessings
        ]  # (batch, 3, size, size) each
        with torch.set_grad_enabled(torch.is_grad_enabled() and "encoders" in self._recipe.trains):
            return self.network.visual_tokens(images)

    def _answer_loss(
        self, embeddings: torch.Tensor, prompt: PromptTokens, answers: torch.Tensor
    ) -> torch.Tensor:
        forced = answers.masked_fill(answers == IGNORED, self._pad)  # (share, length)
        logits = self.network.answer_logits(embeddings, prompt, forced)  # (share, length, vocabulary)
        return answer_loss(logits, answers, self._first_number, self._near)


def _prompts(loaded: LiteGPT, recipe: Recipe, tag: Tag) -> list[PromptTokens]:
    """What may be asked: the instruction of the model folder, or each of the pool."""
    chosen = recipe.tasks[tag].instructions
    plain = loaded.config.instructions.get(tag, INSTRUCTION_POOL[tag][0])
    texts = {"plain": (plain,), "pool": INSTRUCTION_POOL[tag]}.get(chosen, (chosen,))
    return [tokenise_prompt(loaded.tokenizer, text) for text in texts]


def _token_width(loaded: LiteGPT) -> int:
    return loaded.model.projection.fc1.in_features // loaded.model.projection.group


def _first_number(loaded: LiteGPT) -> int | None:
    """The id of ``<0>``; None where the tokenizer writes numbers in digits.

    Llama-2's says of any token that it does not have that it is <unk>.
    """
    first = loaded.tokenizer.convert_tokens_to_ids(number_token(0))
    return first if isinstance(first, int) and first != loaded.tokenizer.unk_token_id else None
