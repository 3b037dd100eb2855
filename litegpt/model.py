"""LiteGPT itself: encode, concatenate, project, put the image into the prompt, decode.

    image ┬ encoder A ─ 196 × w ┐
          └ encoder B ─  49 × w ┴ 245 × w ─ LayerNorm ─ 49 × 5w ─ Linear·GELU·Linear ─ 49 × e ┐
    [INST] <Img> ───────────────────────────────────────────────────────── embeddings ────────┤
    </Img> [identify] … [/INST] ────────────────────────────────────────── embeddings ────────┴ Llama, LoRA

Source: arXiv 2407.12064. This module knows nothing of files, boxes or DICOM.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import nn

from litegpt.errors import ModelError
from litegpt.projection import Projection
from litegpt.prompts import PromptTokens


class LiteGPT(nn.Module):
    """Two encoders, a projection and a causal language model (plain, or wrapped by PEFT)."""

    def __init__(
        self,
        encoder_a: nn.Module,
        encoder_b: nn.Module,
        language_model: nn.Module,
        *,
        image_size: int,
        hidden: int,
    ) -> None:
        """Args:
            encoder_a: Images to (batch, tokens, width); see ``litegpt.encoders``.
            encoder_b: Likewise, of the same width.
            language_model: A causal language model of transformers.
            image_size: Side of the encoders' input in pixels.
            hidden: Width between the projection's Linears.

        Raises:
            ModelError: If the encoders' widths differ or their tokens cannot be grouped into 49.
        """
        super().__init__()
        self.encoder_a = encoder_a
        self.encoder_b = encoder_b
        self.language_model = language_model
        if encoder_a.width != encoder_b.width:
            raise ModelError(f"the encoders' widths differ: {encoder_a.width} and {encoder_b.width}")
        width = int(cast(int, encoder_a.width))
        tokens = _token_count(encoder_a, image_size) + _token_count(encoder_b, image_size)
        embedding = int(cast(Any, language_model).config.hidden_size)
        self.projection = Projection(width, tokens, hidden, embedding)

    def visual_tokens(self, images: torch.Tensor) -> torch.Tensor:
        """(batch, 3, size, size) to (batch, 245, width): A's tokens, then B's."""
        return torch.cat([self.encoder_a(images), self.encoder_b(images)], dim=1)

    def image_embeddings(self, images: torch.Tensor) -> torch.Tensor:
        """(batch, 3, size, size) to (batch, 49, embedding)."""
        return cast(torch.Tensor, self.projection(self.visual_tokens(images)))

    def embed_tokens(self, ids: torch.Tensor) -> torch.Tensor:
        """(batch, length) token ids to (batch, length, embedding)."""
        return cast(torch.Tensor, cast(Any, self.language_model).get_input_embeddings()(ids))

    def embed_prompt(self, image_embeddings: torch.Tensor, prompt: PromptTokens) -> torch.Tensor:
        """Puts each image into the prompt.

        Args:
            image_embeddings: (batch, 49, embedding).
            prompt: The tokens around the image.

        Returns:
            (batch, before + 49 + after, embedding).
        """
        batch, device = len(image_embeddings), image_embeddings.device
        before = self.embed_tokens(prompt.before.to(device)).expand(
            batch, -1, -1
        )  # (batch, before, embedding)
        after = self.embed_tokens(prompt.after.to(device)).expand(batch, -1, -1)  # (batch, after, embedding)
        return torch.cat([before, image_embeddings.to(before.dtype), after], dim=1)

    def answer_logits(
        self, image_embeddings: torch.Tensor, prompt: PromptTokens, answers: torch.Tensor
    ) -> torch.Tensor:
        """Teacher forcing: the logits that predict each answer token.

        Args:
            image_embeddings: (batch, 49, embedding).
            prompt: The tokens around the image.
            answers: (batch, length) token ids, right-padded; the padding's own logits mean nothing.

        Returns:
            (batch, length, vocabulary).
        """
        prompted = self.embed_prompt(image_embeddings, prompt)  # (batch, prompt, embedding)
        forced = self.embed_tokens(answers[:, :-1])  # (batch, length - 1, embedding)
        # Right padding needs no mask: a causal model's answer positions never see what follows them.
        output = cast(Any, self.language_model)(
            inputs_embeds=torch.cat([prompted, forced], dim=1),
            use_cache=False,
            logits_to_keep=answers.shape[1],
        )
        return cast(torch.Tensor, output.logits)


def left_pad(sequences: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Stacks batches of embeddings of unequal length, zeros on the left.

    Args:
        sequences: Each (batch, length, embedding).

    Returns:
        Embeddings, (sum of batches, longest, embedding), and attention mask, (sum of batches, longest).
    """
    longest = max(sequence.shape[1] for sequence in sequences)
    padded, masks = [], []
    for sequence in sequences:
        batch, length, _ = sequence.shape
        padded.append(nn.functional.pad(sequence, (0, 0, longest - length, 0)))  # (batch, longest, embedding)
        mask = torch.ones(batch, longest, dtype=torch.long, device=sequence.device)
        mask[:, : longest - length] = 0
        masks.append(mask)
    return torch.cat(padded), torch.cat(masks)


def _token_count(encoder: nn.Module, image_size: int) -> int:
    with torch.no_grad():
        weight = next(encoder.parameters())
        image = torch.zeros(1, 3, image_size, image_size, dtype=weight.dtype, device=weight.device)
        return int(encoder(image).shape[1])
