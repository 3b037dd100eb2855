"""The most that a device allows: a prompt is taken in by arithmetic, an answer by memory or arithmetic.

    taking in    FLOPs of all prompt tokens / FLOP/s
    a step       the larger of (weights + keys and values of all sequences) / bandwidth and FLOPs / FLOP/s
    images/s     images / (taking in + steps · a step)

Worked out for Llama-2-7b on an H200, as the goals have it: 6.607e9 parameters that each token passes (all but
the input embedding) are 13.2 GB in bfloat16, a token's keys and values 2 · 32 layers · 4096 · 2 bytes = 0.524
MB. The data sheet's 989 TFLOP/s and 4.8 TB/s are not reached by any program; as attainable count 80 % of the
one, 791 TFLOP/s, and 90 % of the other, 4.32 TB/s. 135 prompt and 60 answer tokens, the two prompts one after
the other:

    sequences   taking in: n · 135 · 13.2 GFLOP   a step: (13.2 GB + n · 165 · 0.524 MB)   images/s
        1         2.3 ms                            3.08 ms                                   2.7
       32        72                                 3.70                                     54
      128       288                                 5.62                                    102
      512      1153                                13.3                                     131

A single sequence decodes 1 / 3.08 ms = 325 tokens/s. With the data sheet's own figures in place of the
attainable ones the last column would be 3.0, 62, 120 and 156.

Left out: the arithmetic of attention itself (0.7 % at such lengths), activations, the logits, the CPU's part,
and the one reading of the weights that taking in a few tokens needs at least (3 ms; it matters at 1 only).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Final

ATTAINABLE_FLOPS: Final = 0.8
ATTAINABLE_BANDWIDTH: Final = 0.9

GOAL_SEQUENCES: Final = 512
"""Sequences whose limit the goal for the best batch refers to."""


@dataclass(frozen=True, slots=True)
class Peak:
    """What a device can do.

    Attributes:
        flops: FLOP/s of dense matrix products in the precision of the weights.
        bandwidth: Bytes/s from its memory.
    """

    flops: float
    bandwidth: float

    def attainable(self) -> Peak:
        """What of a data sheet's figures the best programs reach."""
        return Peak(self.flops * ATTAINABLE_FLOPS, self.bandwidth * ATTAINABLE_BANDWIDTH)


@dataclass(frozen=True, slots=True)
class LanguageModelCost:
    """What a token costs.

    Attributes:
        body: Parameters that every token passes.
        head: Parameters of the output matrix; a prompt needs it for its last token only.
        parameter_bytes: Of one parameter.
        cached_bytes: Keys and values of one token.
    """

    body: int
    head: int
    parameter_bytes: int
    cached_bytes: int

    def step_seconds(self, peak: Peak, sequences: int, context: float) -> float:
        """One more token of each sequence, each having so many tokens before it."""
        parameters = self.body + self.head
        moved = parameters * self.parameter_bytes + sequences * context * self.cached_bytes  # bytes
        return max(moved / peak.bandwidth, 2 * parameters * sequences / peak.flops)


LLAMA_2_7B: Final = LanguageModelCost(
    body=32 * (4 * 4096**2 + 3 * 4096 * 11008 + 2 * 4096) + 4096,
    head=32000 * 4096,
    parameter_bytes=2,
    cached_bytes=2 * 32 * 4096 * 2,
)
"""In bfloat16."""


@dataclass(frozen=True, slots=True)
class Limit:
    """The least time that some images take.

    Attributes:
        images: How many.
        prefill_seconds: For taking in the prompts.
        decode_seconds: For the answers.
    """

    images: float
    prefill_seconds: float
    decode_seconds: float

    @property
    def images_per_second(self) -> float:
        """Images in a second."""
        return self.images / (self.prefill_seconds + self.decode_seconds)


def limit_as_published(
    model: LanguageModelCost,
    peak: Peak,
    sequences: int,
    *,
    prompt: int = 135,
    answer: int = 60,
    prompts: int = 2,
) -> Limit:
    """One prompt after the other, each taken in whole, every token through the output matrix.

    Args:
        model: The language model.
        peak: What the device attains.
        sequences: Images that are asked the same prompt at once.
        prompt: Tokens of a prompt, the image's embeddings included.
        answer: Tokens of an answer.
        prompts: How many each image is asked.
    """
    flops = 2 * (model.body + model.head) * prompt * sequences
    step = model.step_seconds(peak, sequences, prompt + answer / 2)
    return Limit(sequences, prompts * flops / peak.flops, prompts * answer * step)


def limit_as_we_do(
    model: LanguageModelCost,
    peak: Peak,
    images: int,
    *,
    prefix: int,
    suffixes: Sequence[int],
    steps: int,
    image_flops: float = 0.0,
) -> Limit:
    """All prompts side by side, what they begin with taken in once: more is possible than as published.

    Args:
        model: The language model.
        peak: What the device attains.
        images: At once.
        prefix: Tokens that an image's prompts have in common.
        suffixes: Tokens of each prompt after that, with those of the answer that are known beforehand.
        steps: Passes for the answers; their first token comes with the prompt.
        image_flops: Of the encoders and the projection, for one image.
    """
    sequences = images * len(suffixes)
    body = 2 * model.body * images * (prefix + sum(suffixes))
    head = 2 * model.head * sequences
    step = model.step_seconds(peak, sequences, prefix + fmean(suffixes) + steps / 2)
    return Limit(images, (body + head + images * image_flops) / peak.flops, steps * step)
