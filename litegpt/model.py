"""LiteGPT itself: encode, concatenate, project, put the image into the prompt, decode.

The paper's two encoders; one, three, or others of other shapes are a matter of the model folder.

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

from litegpt.encoders import Encoder
from litegpt.projection import Fusion, fuse, new_projection
from litegpt.prompts import PromptTokens


class LiteGPTNetwork(nn.Module):
    """Encoders, a projection and a causal language model (plain, or wrapped by PEFT)."""

    def __init__(
        self,
        encoders: Sequence[Encoder],
        language_model: nn.Module,
        *,
        hidden: int,
        fusion: Fusion = "paper",
    ) -> None:
        """Args:
            encoders: In the order of their tokens; the paper's are BiomedCLIP, then PubMedCLIP.
            language_model: A causal language model of transformers.
            hidden: Width between the projection's Linears.
            fusion: How the encoders come together, see ``litegpt.projection``.

        Raises:
            ModelError: If the encoders cannot come together in this way.
        """
        super().__init__()
        self.encoders = nn.ModuleList(encoders)
        self.language_model = language_model
        self.fusion = fusion
        self.projection = new_projection(
            [(encoder.tokens, encoder.width) for encoder in encoders],
            fusion,
            hidden=hidden,
            embedding=int(cast(Any, language_model).config.hidden_size),
        )

    def visual_tokens(self, images: torch.Tensor | Sequence[torch.Tensor]) -> torch.Tensor:
        """What the projection gets.

        Args:
            images: (batch, 3, size, size) for all encoders, or a sequence of these: of one tensor for all
                encoders, or of one for each in its own size.

        Returns:
            (batch, sum of tokens, width) of the fused encoders, the paper's (batch, 245, 768).
        """
        given = [images] if isinstance(images, torch.Tensor) else list(images)
        each = given * len(self.encoders) if len(given) == 1 else given
        return fuse([encoder(image) for encoder, image in zip(self.encoders, each, strict=True)], self.fusion)

    def image_embeddings(self, images: torch.Tensor | Sequence[torch.Tensor]) -> torch.Tensor:
        """Images, as of ``visual_tokens``, to (batch, 49, embedding)."""
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
