"""From the encoders' tokens to 49 embeddings of the language model.

Two ways to bring encoders together, the model folder's ``fusion``:

``paper``
    One after the other on the token axis (equal widths), then groups of tokens / 49 consecutive tokens.
``per_encoder``
    Our departure, for encoders of any shape: each one's patch grid is averaged to 7 × 7 and normalised, the
    features are put side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, cast

import torch
import torch.nn.functional as F
from torch import nn

from litegpt.errors import ModelError
from litegpt.tensors import one_line

Fusion = Literal["paper", "per_encoder"]
FUSIONS: Final[tuple[Fusion, ...]] = ("paper", "per_encoder")

IMAGE_EMBEDDINGS: Final = 49
"""Embeddings the language model gets for one image."""

GRID_SIDE: Final = 7

NORM_EPS: Final = 1e-5


def fuse(tokens: Sequence[torch.Tensor], fusion: Fusion) -> torch.Tensor:
    """Brings the encoders' tokens together.

    Args:
        tokens: Each encoder's, (batch, tokens, width).
        fusion: How.

    Returns:
        ``paper``: (batch, sum of tokens, width). ``per_encoder``: (batch, 49, sum of widths).
    """
    if fusion == "paper":
        return torch.cat(list(tokens), dim=1)
    return torch.cat([pool_to_grid(part) for part in tokens], dim=2)


def pool_to_grid(tokens: torch.Tensor) -> torch.Tensor:
    """(batch, n², width), row-major, to (batch, 49, width): means over the cells of a 7 × 7 grid."""
    batch, count, width = tokens.shape
    side = round(count**0.5)
    grid = tokens.transpose(1, 2).reshape(batch, width, side, side)  # (batch, width, n, n)
    cells = F.adaptive_avg_pool2d(grid, GRID_SIDE)  # (batch, width, 7, 7)
    return cells.flatten(2).transpose(1, 2)  # (batch, 49, width)


class Projection(nn.Module):
    """Frozen LayerNorm, groups of consecutive tokens, Linear–GELU–Linear.

    The published ``ln_vision`` stays at its initial values and is never saved, so it is a plain normalisation
    of each token. Groups are made in row-major order and take no notice of rows or of the encoder a token is
    from: with 196 + 49 tokens and groups of five, group 39 mixes one token of A with four of B.
    """

    def __init__(
        self, width: int, tokens: int, hidden: int, embedding: int, *, parts: Sequence[int] | None = None
    ) -> None:
        """Args:
            width: Width of the fused tokens.
            tokens: Tokens of all encoders together, 49 × the group size.
            hidden: Width between the Linears (paper 5632, from MiniGPT-v2).
            embedding: Width of the language model.
            parts: Widths within a token that are normalised apart; by default the token as one.

        Raises:
            ModelError: If the tokens cannot be grouped into 49, or the Linears are of an impossible size.
        """
        super().__init__()
        if tokens % IMAGE_EMBEDDINGS:
            raise ModelError(f"{tokens} image tokens cannot be grouped into {IMAGE_EMBEDDINGS}")
        self.group = tokens // IMAGE_EMBEDDINGS
        self.parts = list(parts or [width])
        try:
            self.fc1 = nn.Linear(self.group * width, hidden)
            self.fc2 = nn.Linear(hidden, embedding)
        except RuntimeError as error:  # negative, or more than the memory there is
            raise ModelError(f"no projection of width {hidden} can be made: {one_line(error)}") from None

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(batch, tokens, width) to (batch, 49, embedding)."""
        batch, _, width = tokens.shape
        normal = torch.cat(
            [
                F.layer_norm(part.float(), part.shape[-1:], eps=NORM_EPS).to(tokens.dtype)
                for part in torch.split(tokens, self.parts, dim=-1)
            ],
            dim=-1,
        )  # (batch, tokens, width)
        groups = normal.reshape(batch, IMAGE_EMBEDDINGS, self.group * width)  # (batch, 49, group·width)
        hidden = F.gelu(self.fc1(groups))  # (batch, 49, hidden)
        return cast(torch.Tensor, self.fc2(hidden))  # (batch, 49, embedding)


def new_projection(
    shapes: Sequence[tuple[int, int]], fusion: Fusion, *, hidden: int, embedding: int
) -> Projection:
    """The projection that fits some encoders.

    Args:
        shapes: Each encoder's tokens and their width.
        fusion: How they come together.
        hidden: Width between the Linears.
        embedding: Width of the language model.

    Raises:
        ModelError: If these encoders cannot come together in this way.
    """
    if not shapes:
        raise ModelError("a model needs at least one encoder")
    widths = [width for _, width in shapes]
    if fusion == "paper":
        if len(set(widths)) > 1:
            listed = " and ".join(map(str, widths))
            raise ModelError(f"the encoders' widths differ: {listed}; fusion 'per_encoder' can join them")
        return Projection(widths[0], sum(tokens for tokens, _ in shapes), hidden, embedding)
    for tokens, _ in shapes:
        if round(tokens**0.5) ** 2 != tokens:
            raise ModelError(f"{tokens} image tokens are no square grid that could be pooled to 7 × 7")
    return Projection(sum(widths), IMAGE_EMBEDDINGS, hidden, embedding, parts=widths)
