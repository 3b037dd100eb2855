"""The loss on the answer's tokens."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from litegpt.boxes import GRID
from training.batches import IGNORED


def near_numbers(sigma: float) -> torch.Tensor:
    """For each number of the grid, a Gaussian over all numbers.

    A box one step off is nearly right; plain cross-entropy would count it as wrong as any other.

    Args:
        sigma: Width in grid steps.

    Returns:
        (101, 101), rows sum to 1.
    """
    numbers = torch.arange(GRID + 1, dtype=torch.float32)
    return torch.softmax(-((numbers[:, None] - numbers) ** 2) / (2 * sigma**2), dim=-1)


def answer_loss(
    logits: torch.Tensor, answers: torch.Tensor, first_number: int | None, near: torch.Tensor | None
) -> torch.Tensor:
    """Mean cross-entropy over the answers' tokens, EOS included; numbers against their soft targets.

    Args:
        logits: (batch, length, vocabulary); position i predicts answer token i.
        answers: (batch, length), ``IGNORED`` where there is none.
        first_number: Id of the token ``<0>``, the other numbers following; None where numbers are digits.
        near: ``near_numbers``; None for plain cross-entropy.
    """
    log_probabilities = F.log_softmax(logits.float(), dim=-1)  # (batch, length, vocabulary)
    kept = answers != IGNORED  # (batch, length)
    chosen, targets = log_probabilities[kept], answers[kept]  # (tokens, vocabulary), (tokens,)
    losses = F.nll_loss(chosen, targets, reduction="none")  # (tokens,)
    if first_number is not None and near is not None:
        numbers = targets - first_number
        is_number = (numbers >= 0) & (numbers <= GRID)
        soft = near.to(chosen.device)[numbers[is_number]]  # (numbers, 101)
        predicted = chosen[is_number][:, first_number : first_number + GRID + 1]  # (numbers, 101)
        losses = losses.masked_scatter(is_number, -(predicted * soft).sum(dim=-1))
    return losses.mean()
