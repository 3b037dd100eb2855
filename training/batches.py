"""Phantoms made on the fly, as batches of images, answers and dense targets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset
from transformers import PreTrainedTokenizerBase

from litegpt.answers import write_diagnoses, write_findings
from litegpt.vocabulary import DIAGNOSES
from training.dense import dense_targets
from training.phantom.radiograph import Phantom, phantoms

IGNORED: Final = -100
"""Marks padding in answers, as in transformers' losses."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What one step learns from.

    Attributes:
        squares: (batch, 224, 224) uint8.
        findings: (batch, length) token ids of the local answer and EOS, then ``IGNORED``.
        diagnoses: (batch, length) token ids of the global answer and EOS, then ``IGNORED``.
        cell_labels: (batch, 245, labels).
        cell_boxes: (batch, 245, 4), fractions of the side or NaN.
        diagnosis_labels: (batch, diagnoses), 0 or 1.
    """

    squares: torch.Tensor
    findings: torch.Tensor
    diagnoses: torch.Tensor
    cell_labels: torch.Tensor
    cell_boxes: torch.Tensor
    diagnosis_labels: torch.Tensor


def make_batch(phantoms_: Sequence[Phantom], tokenizer: PreTrainedTokenizerBase) -> Batch:
    """Puts phantoms into one batch."""
    targets = [dense_targets(phantom.findings) for phantom in phantoms_]
    said = [[diagnosis in phantom.diagnoses for diagnosis in DIAGNOSES] for phantom in phantoms_]
    return Batch(
        squares=torch.from_numpy(np.stack([phantom.pixels for phantom in phantoms_])),
        findings=_answers([findings_answer(phantom) for phantom in phantoms_], tokenizer),
        diagnoses=_answers([write_diagnoses(phantom.diagnoses) for phantom in phantoms_], tokenizer),
        cell_labels=torch.from_numpy(np.stack([labels for labels, _ in targets])),
        cell_boxes=torch.from_numpy(np.stack([boxes for _, boxes in targets])),
        diagnosis_labels=torch.tensor(said, dtype=torch.float32),
    )


def findings_answer(phantom: Phantom) -> str:
    """The true answer to ``[identify]``."""
    rows, columns = phantom.pixels.shape
    return write_findings((finding.label, finding.box.to_grid(columns, rows)) for finding in phantom.findings)


def _answers(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> torch.Tensor:
    ids = [[*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id] for text in texts]
    longest = max(len(answer) for answer in ids)
    return torch.tensor([answer + [IGNORED] * (longest - len(answer)) for answer in ids])


class _Batches(IterableDataset[Batch]):
    def __init__(self, tokenizer: PreTrainedTokenizerBase, batch_size: int, seed: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._batch_size = batch_size
        self._seed = tuple(seed)

    def __iter__(self) -> Iterator[Batch]:
        stream = phantoms(self._seed)
        while True:
            yield make_batch([next(stream) for _ in range(self._batch_size)], self._tokenizer)


def batches(tokenizer: PreTrainedTokenizerBase, batch_size: int, seed: Sequence[int]) -> Iterator[Batch]:
    """Batches without end, made by one process beside the training; the same for the same seed."""
    dataset = _Batches(tokenizer, batch_size, seed)
    return iter(DataLoader(dataset, batch_size=None, num_workers=1, prefetch_factor=8))
