"""A model of the paper's shape, random weights, answers of a given length; bfloat16 on a GPU.

The engine at several batches and at the largest that fits, beside ``generate`` as published, but fairly:
batch 4, LoRA adapter unmerged, KV cache on, each image encoded again for the second prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any, Final, cast

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.comparison import Comparison, Goal, fastest, parameters_of
from benchmarks.contenders import EngineContender, GenerateContender
from benchmarks.machine import attainable
from benchmarks.random_model import PAPER, Shape, endless_grammar, random_model
from benchmarks.roofline import (
    GOAL_SEQUENCES,
    LanguageModelCost,
    Limit,
    Peak,
    limit_as_published,
    limit_as_we_do,
)
from benchmarks.rounds import Entry, Rounds, measured_images
from litegpt.engine import Engine
from litegpt.memory import cached_token_bytes
from litegpt.model_folder import LiteGPT
from litegpt.projection import IMAGE_EMBEDDINGS
from litegpt.prompts import IDENTIFY, VQA, tokenise_prompt
from litegpt.radiograph import Radiograph

PUBLISHED_BATCH: Final = 4
"""Images at once of the peer."""

AS_PUBLISHED: Final = "as published"
AS_WE_DO: Final = "as we do"

_TABLE: Final = (1, 32, 128, GOAL_SEQUENCES)
GOAL_ALONE: Final = 0.6
GOAL_BEST: Final = 0.5
GOAL_TIMES: Final = 40.0

_GROWTH: Final = 1.25
_LARGEST: Final = 1024


@dataclass(frozen=True, slots=True)
class _Workload:
    """What limits are worked out for."""

    cost: LanguageModelCost
    peak: Peak
    prompt: int
    answer: int
    prefix: int
    suffixes: tuple[int, ...]
    steps: int
    image_flops: float

    def published(self, sequences: int) -> Limit:
        return limit_as_published(self.cost, self.peak, sequences, prompt=self.prompt, answer=self.answer)

    def limits(self, images: int) -> dict[str, float]:
        """Images/s by the way they are worked out."""
        ours = limit_as_we_do(
            self.cost,
            self.peak,
            images,
            prefix=self.prefix,
            suffixes=self.suffixes,
            steps=self.steps,
            image_flops=self.image_flops,
        )
        published = self.published(images).images_per_second
        return {AS_PUBLISHED: published, AS_WE_DO: ours.images_per_second}

    def tokens_per_second_alone(self) -> float:
        """Of one sequence, as far as weights and cache can be read."""
        return 1 / self.cost.step_seconds(self.peak, 1, self.prompt + self.answer / 2)


def random_comparison(
    name: str,
    shape: Shape,
    files: Sequence[Path],
    radiographs: Sequence[Radiograph],
    batches: Iterable[int],
    *,
    device: str,
    prompt_tokens: int,
    answer_tokens: int,
) -> Comparison:
    """Sets it up.

    Args:
        name: Of the model, for people.
        shape: Its widths.
        files: Of the radiographs.
        radiographs: To be read; over and over where a batch is larger.
        batches: Images at once, of the engine.
        device: Where.
        prompt_tokens: Of either prompt.
        answer_tokens: Of either answer.
    """
    dtype = torch.bfloat16 if device.startswith("cuda") else torch.float32
    loaded = random_model(
        shape, dtype=dtype, device=device, prompt_tokens=prompt_tokens, answer_tokens=answer_tokens
    )
    field = _Field(loaded, device, radiographs)
    peak, source = attainable(device, dtype)
    workload = _workload(field, peak, prompt_tokens)
    return Comparison(
        model=f"{name}, random weights, {prompt_tokens} + {answer_tokens} tokens",
        precision="bf16" if dtype == torch.bfloat16 else "fp32",
        parameters=parameters_of(loaded.model),
        rounds=Rounds(field.entries(batches, workload), files, device),
        peak=peak,
        peak_source=source,
        same_answers=False,
        published_limits={sequences: workload.published(sequences) for sequences in _TABLE},
        judge=lambda measured: _goals(workload, measured) if shape is PAPER else [],
    )


class _Field:
    """Who runs a model: the peer, and the engine at several batches."""

    def __init__(self, loaded: LiteGPT, device: str, radiographs: Sequence[Radiograph]) -> None:
        self.loaded = loaded
        self.device = device
        self.grammar = endless_grammar(loaded.tokenizer, device)
        self._radiographs = radiographs

    def entries(self, batches: Iterable[int], workload: _Workload) -> list[Entry]:
        """The peer first; on a GPU the batches that fit, and the largest that does."""
        rival = Entry(
            GenerateContender(
                self.loaded, self.device, PUBLISHED_BATCH, adapter=True, answer_tokens=workload.answer
            ),
            self._images(PUBLISHED_BATCH),
            limits={AS_PUBLISHED: workload.published(PUBLISHED_BATCH).images_per_second},
        )
        if self.device.startswith("cuda"):
            planned = Engine(self.loaded, self.device, self.grammar).batch_size
            batches = sorted({*filter(self._fits, batches), largest_that_fits(planned, self._fits)})
        ours = [
            Entry(self._engine(batch), self._images(batch), rival, workload.limits(batch))
            for batch in batches
        ]
        return [rival, *ours]

    def _engine(self, batch: int) -> EngineContender:
        return EngineContender(self.loaded, self.device, self.grammar, batch)

    def _images(self, batch: int) -> list[Radiograph]:
        return list(islice(cycle(self._radiographs), measured_images(batch, len(self._radiographs))))

    def _fits(self, batch: int) -> bool:
        contender = self._engine(batch)
        contender.read(self._images(batch)[:batch])
        return contender.fits


def largest_that_fits(planned: int, fits: Callable[[int], bool]) -> int:
    """The largest batch that memory holds, to about a fifth, starting from what was planned."""
    batch = planned
    while batch > 1 and not fits(batch):
        batch //= 2
    while (larger := int(batch * _GROWTH) + 1) <= _LARGEST and fits(larger):
        batch = larger
    return batch


def language_model_cost(language_model: nn.Module) -> LanguageModelCost:
    """What a token costs a causal language model of transformers."""
    model = cast(Any, language_model)
    embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    body = parameters_of(language_model) - embedding.numel()
    if head is not embedding:
        body -= head.numel()
    dtype = embedding.dtype
    return LanguageModelCost(body, head.numel(), dtype.itemsize, cached_token_bytes(model.config, dtype))


def _workload(field: _Field, peak: Peak, prompt_tokens: int) -> _Workload:
    config, tokenizer = field.loaded.config, field.loaded.tokenizer
    prompts = [tokenise_prompt(tokenizer, config.instructions[tag]) for tag in (IDENTIFY, VQA)]
    opening = len(field.grammar.opening(IDENTIFY)[0])  # both answers begin alike
    return _Workload(
        cost=language_model_cost(field.loaded.model.language_model),
        peak=peak,
        prompt=prompt_tokens,
        answer=config.max_new_tokens,
        prefix=prompts[0].before.shape[1] + IMAGE_EMBEDDINGS,
        suffixes=tuple(prompt.after.shape[1] + opening for prompt in prompts),
        steps=config.max_new_tokens - opening - 1,
        image_flops=_image_flops(field.loaded, field.device),
    )


@torch.inference_mode()
def _image_flops(loaded: LiteGPT, device: str) -> float:
    """Of the encoders and the projection, for one image."""
    weight = next(loaded.model.parameters())
    sizes = [preprocessing.size for preprocessing in dict.fromkeys(loaded.preprocessings)]
    images = [torch.zeros(1, 3, size, size, dtype=weight.dtype, device=device) for size in sizes]
    with FlopCounterMode(display=False) as counter:
        loaded.model.image_embeddings(images)
    return float(counter.get_total_flops())


def _goals(workload: _Workload, entries: Sequence[Entry]) -> list[Goal]:
    ours = [entry for entry in entries if entry.rival is not None]
    alone = workload.tokens_per_second_alone()
    goals = [
        Goal(
            "batch 1: tokens/s, of one sequence's limit", GOAL_ALONE, median(entry.tokens_per_second) / alone
        )
        for entry in ours
        if entry.contender.batch == 1
    ]
    if ours:
        best = fastest(ours)
        who = f"batch {best.contender.batch}, the best: "
        limit = workload.published(GOAL_SEQUENCES).images_per_second
        reached = median(best.images_per_second) / limit
        goals.append(Goal(f"{who}images/s, of the limit at {GOAL_SEQUENCES}", GOAL_BEST, reached))
        if best.ratios:
            goals.append(Goal(f"{who}times as fast as generate", GOAL_TIMES, median(best.ratios)))
    return goals
