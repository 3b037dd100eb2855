"""The shipped model on the CPU in float32: the engine beside ``generate``, same weights, same batch.

The engine takes part twice: as the product uses it, which scores every label, and with free answers and no
scores, which is what ``generate`` does.

Its limit is that of arithmetic: the FLOPs of all matrix products of a run, as PyTorch counts them, at the
FLOP/s of one large product. The weights stay in the processor's caches, so memory sets none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Final

import torch

from benchmarks.comparison import Comparison, Goal, parameters_of
from benchmarks.contenders import EngineContender, GenerateContender
from benchmarks.machine import attainable
from benchmarks.rounds import Entry, Rounds, measured_images
from litegpt.grammar import compile_grammar
from litegpt.identity import PHANTOM
from litegpt.model_folder import LiteGPT
from litegpt.radiograph import Radiograph

_DEVICE: Final = "cpu"
_GOAL_BATCH: Final = 32
_GOAL: Final = 2.0


def phantom_comparison(
    files: Sequence[Path], radiographs: Sequence[Radiograph], batches: Iterable[int]
) -> Comparison:
    """Sets it up.

    Args:
        files: Of the radiographs.
        radiographs: To be read.
        batches: Images at once, each for both.
    """
    loaded = LiteGPT.from_pretrained(PHANTOM, dtype=torch.float32, device=_DEVICE)
    budget, ordered = loaded.config.max_new_tokens, loaded.config.ordered_answers
    grammar = compile_grammar(loaded.tokenizer, budget=budget, ordered=ordered)
    peak, source = attainable(_DEVICE, torch.float32)
    entries: list[Entry] = []
    for batch in batches:
        images = radiographs[: measured_images(batch, len(radiographs))]
        rival = Entry(GenerateContender(loaded, _DEVICE, batch), images)
        for held_to in (grammar, None):
            entries.append(Entry(EngineContender(loaded, _DEVICE, held_to, batch), images, rival))
        entries.append(rival)
    return Comparison(
        model="phantom",
        precision="fp32",
        parameters=parameters_of(loaded.model),
        rounds=Rounds(entries, files, _DEVICE),
        peak=peak,
        peak_source=source,
        same_answers=True,
        judge=_goals,
    )


def _goals(entries: Sequence[Entry]) -> list[Goal]:
    return [
        Goal(
            f"{entry.contender.name}, batch {_GOAL_BATCH}: times as fast as generate",
            _GOAL,
            median(entry.ratios),
        )
        for entry in entries
        if entry.contender.batch == _GOAL_BATCH and entry.ratios
    ]
