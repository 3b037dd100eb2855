"""From the encoders' 245 tokens to 49 embeddings of the language model."""

from __future__ import annotations

from typing import Final, cast

import torch
import torch.nn.functional as F
from torch import nn

from litegpt.errors import ModelError

IMAGE_EMBEDDINGS: Final = 49
"""Embeddings the language model gets for one image."""

NORM_EPS: Final = 1e-5


class Projection(nn.Module):
    """Frozen LayerNorm, groups of consecutive tokens, Linear–GELU–Linear.

    The published ``ln_vision`` stays at its initial values and is never saved, so it is a plain normalisation
    of each token. Groups are made in row-major order and take no notice of rows or of the encoder a token is
    from: with 196 + 49 tokens and groups of five, group 39 mixes one token of A with four of B.
    """

    def __init__(self, width: int, tokens: int, hidden: int, embedding: int) -> None:
        """Args:
            width: Width of the encoders' tokens.
            tokens: Tokens of all encoders together, 49 × the group size.
            hidden: Width between the Linears (paper 5632, from MiniGPT-v2).
            embedding: Width of the language model.

        Raises:
            ModelError: If the tokens cannot be grouped into 49.
        """
        super().__init__()
        if tokens % IMAGE_EMBEDDINGS:
            raise ModelError(f"{tokens} image tokens cannot be grouped into {IMAGE_EMBEDDINGS}")
        self.group = tokens // IMAGE_EMBEDDINGS
        self.fc1 = nn.Linear(self.group * width, hidden)
        self.fc2 = nn.Linear(hidden, embedding)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(batch, tokens, width) to (batch, 49, embedding)."""
        batch, _, width = tokens.shape
        normal = F.layer_norm(tokens.float(), (width,), eps=NORM_EPS).to(
            tokens.dtype
        )  # (batch, tokens, width)
        groups = normal.reshape(batch, IMAGE_EMBEDDINGS, self.group * width)  # (batch, 49, group·width)
        hidden = F.gelu(self.fc1(groups))  # (batch, 49, hidden)
        return cast(torch.Tensor, self.fc2(hidden))  # (batch, 49, embedding)
