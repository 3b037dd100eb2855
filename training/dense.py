"""The dense task that teaches the small encoders to see, and its head, which is thrown away afterwards.

The paper's encoders come pre-trained on millions of images; the phantom's start from nothing. So each patch
token is asked which findings cover its cell and where the smallest of them ends, and all tokens together
which diagnoses hold. Without it the answers' few tokens teach the encoders far too slowly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, cast

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn

from litegpt.boxes import Box
from litegpt.encoders import Encoder
from litegpt.model import LiteGPTNetwork
from litegpt.vocabulary import DIAGNOSES, LOCAL_LABELS

_COVERED: Final = 0.3
"""Part of a cell that a box must cover to count."""

_CLASS_WEIGHT: Final = 30.0
_POSITIVE_WEIGHT: Final = 3.0
_DIAGNOSIS_WEIGHT: Final = 0.5
_BOX_SCALE: Final = 4.0

Array = npt.NDArray[np.float32]


def grids_of(model: LiteGPTNetwork) -> tuple[int, ...]:
    """Cells along a side of each encoder's tokens: 14 and 7 for patches of 16 and 32 pixels in 224."""
    return tuple(math.isqrt(int(cast(Encoder, encoder).tokens)) for encoder in model.encoders)


class DenseHead(nn.Module):
    """Linear read-outs of the encoders' tokens."""

    def __init__(self, width: int, grids: Sequence[int]) -> None:
        """Args:
        width: Of a token.
        grids: Cells along a side of each encoder's tokens.
        """
        super().__init__()
        self._sizes = [side**2 for side in grids]
        self.cells = nn.ModuleList(nn.Linear(width, len(LOCAL_LABELS) + 4) for _ in grids)
        self.diagnoses = nn.Linear(len(grids) * width, len(DIAGNOSES))

    def forward(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(batch, cells, width) to (batch, cells, labels + 4) and (batch, diagnoses)."""
        each = torch.split(tokens, self._sizes, dim=1)  # (batch, cells of one encoder, width) each
        cells = torch.cat([read(one) for read, one in zip(self.cells, each, strict=True)], dim=1)
        means = torch.cat([one.mean(dim=1) for one in each], dim=1)  # (batch, encoders × width)
        return cells, self.diagnoses(means)


def dense_targets(findings: Sequence[tuple[str, Box]], grids: Sequence[int]) -> tuple[Array, Array]:
    """What each cell should say.

    Args:
        findings: Local labels with their boxes, in fractions of the image's sides.
        grids: Cells along a side of each encoder's tokens.

    Returns:
        Labels (cells, labels), 0 or 1, and boxes (cells, 4) as fractions of the side, NaN where nothing
        covers; the cells of all encoders, one after the other.
    """
    parts = [_grid_targets(findings, side) for side in grids]
    return np.concatenate([labels for labels, _ in parts]), np.concatenate([boxes for _, boxes in parts])


def _grid_targets(findings: Sequence[tuple[str, Box]], cells: int) -> tuple[Array, Array]:
    labels = np.zeros((cells, cells, len(LOCAL_LABELS)), np.float32)
    boxes = np.full((cells, cells, 4), np.nan, np.float32)
    # Largest first, so that the smallest box of a cell is written last.
    for label, box in sorted(findings, key=lambda finding: -finding[1].area):
        fractions = np.array([box.x_min, box.y_min, box.x_max, box.y_max], np.float32)
        covered = np.outer(
            _overlap(fractions[1], fractions[3], cells), _overlap(fractions[0], fractions[2], cells)
        )
        mask = covered > _COVERED
        row = int((fractions[1] + fractions[3]) / 2 * cells)
        column = int((fractions[0] + fractions[2]) / 2 * cells)
        mask[min(row, cells - 1), min(column, cells - 1)] = True
        labels[mask, LOCAL_LABELS.index(label)] = 1
        boxes[mask] = fractions
    return labels.reshape(-1, len(LOCAL_LABELS)), boxes.reshape(-1, 4)


def _overlap(low: float, high: float, cells: int) -> Array:
    """Which part of each cell along one axis lies between two fractions of the side."""
    edges = np.arange(cells + 1, dtype=np.float32) / cells
    overlap = np.minimum(edges[1:], high) - np.maximum(edges[:-1], low)
    return np.asarray(np.clip(overlap, 0, None) * cells, np.float32)


def dense_loss(
    head: DenseHead, tokens: torch.Tensor, labels: torch.Tensor, boxes: torch.Tensor, diagnoses: torch.Tensor
) -> torch.Tensor:
    """Cross-entropy of labels and diagnoses, L1 of boxes where a cell has one.

    Args:
        head: The read-outs.
        tokens: (batch, cells, width).
        labels: (batch, cells, labels), 0 or 1.
        boxes: (batch, cells, 4), fractions of the side or NaN.
        diagnoses: (batch, diagnoses), 0 or 1.
    """
    cells, said = head(tokens)
    cells, said = cells.float(), said.float()
    named, placed = cells[..., : len(LOCAL_LABELS)], cells[..., len(LOCAL_LABELS) :]
    weight = torch.tensor(_POSITIVE_WEIGHT, device=tokens.device)
    loss = _CLASS_WEIGHT * F.binary_cross_entropy_with_logits(named, labels, pos_weight=weight)
    loss = loss + _DIAGNOSIS_WEIGHT * F.binary_cross_entropy_with_logits(said, diagnoses)
    has_box = ~boxes[..., 0].isnan()  # (batch, cells)
    if has_box.any():
        loss = loss + F.l1_loss(placed[has_box], (boxes[has_box] - 0.5) * _BOX_SCALE)
    return loss
