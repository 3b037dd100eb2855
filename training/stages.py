"""What the phantom model learns, in order: each stage is data, and ``training.loop`` runs any of them.

1. ``encoders``     the dense task alone (the paper's encoders come pre-trained; ours must be)
2. ``pretraining``  both prompts, everything trained, the dense task kept beside them (stands for the
                    pre-training of Llama-2 and MiniGPT-v2)
3. ``grounding``    the paper's stage 1: ``[identify]``; LoRA and projection, all else frozen
4. ``diagnosis``    the paper's stage 2: ``[vqa]``; likewise. A share of ``[identify]`` is kept, as one set of
                    weights has to answer both prompts (how the paper did this is not known).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of training.

    Attributes:
        name: What it is called in commands and logs.
        images: Phantoms to learn from.
        batch_size: Phantoms a step.
        learning_rate: Peak of AdamW's rate; Muon's is three times as much.
        trains_encoders: Whether the encoders (and the dense head) learn.
        trains_language_model: Whether all of the language model learns; where not, its adapter does.
        trains_answers: Whether projection and language model take part at all.
        identify_weight, vqa_weight, dense_weight: Of the losses.
        minutes: Wall-clock limit; the learning rate then falls by time. None: by images only.
    """

    name: str
    images: int
    batch_size: int
    learning_rate: float
    trains_encoders: bool
    trains_language_model: bool
    trains_answers: bool
    identify_weight: float
    vqa_weight: float
    dense_weight: float
    minutes: float | None = None


ENCODERS: Final = Stage("encoders", 4_800, 16, 1e-3, True, False, False, 0, 0, 1)
PRETRAINING: Final = Stage("pretraining", 60_000, 24, 1e-3, True, True, True, 1, 0.5, 1)
GROUNDING: Final = Stage("grounding", 6_000, 24, 4e-4, False, False, True, 1, 0, 0)
DIAGNOSIS: Final = Stage("diagnosis", 4_000, 24, 2e-4, False, False, True, 0.5, 1, 0)
PRETRAINING_STAGES: Final = (ENCODERS, PRETRAINING)
ADAPTER_STAGES: Final = (GROUNDING, DIAGNOSIS)
STAGES: Final = PRETRAINING_STAGES + ADAPTER_STAGES


def scaled(stage: Stage, factor: float) -> Stage:
    """The same stage on more or fewer images, at least one batch."""
    return replace(stage, images=max(stage.batch_size, round(stage.images * factor)))
