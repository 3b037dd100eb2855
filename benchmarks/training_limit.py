"""What learning from one image costs at least, worked out from a model's shape.

The encoders and the language model are frozen; the projection and a LoRA of the query and value projections
learn. A product of matrices costs two operations a weight and token. Going backwards through frozen weights
costs that once more: gradients pass them on their way to LoRA and, below them, to the projection. A weight
that learns costs it twice more, but the projection's first Linear needs none for the tokens before it.

    forwards     2 · (layers + LoRA) · tokens + 2 · head · answer
    backwards    2 · (layers + 2 · LoRA) · tokens + 2 · head · answer
    once more    2 · (layers + LoRA) · tokens, with gradient checkpointing

Left out: attention itself (1 % at such lengths), norms, and the optimiser.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from benchmarks.random_model import Shape
from litegpt.projection import IMAGE_EMBEDDINGS

_PATCHES: Final = (196, 49)
_GROUP: Final = 5
_PATCH_VALUES: Final = (16 * 16 * 3, 32 * 32 * 3)


@dataclass(frozen=True, slots=True)
class LearningCost:
    """Floating-point operations for one image.

    Attributes:
        encode: Of both encoders, forwards; nothing where their tokens are kept.
        learn: Of projection and language model, forwards and backwards.
        recompute: Of the language model's layers once more, with gradient checkpointing.
    """

    encode: float
    learn: float
    recompute: float

    @property
    def total(self) -> float:
        """With everything computed."""
        return self.encode + self.learn + self.recompute


def learning_cost(shape: Shape, *, rank: int = 64, prompt: int = 135, answer: int = 60) -> LearningCost:
    """What one image costs.

    Args:
        shape: Of the model.
        rank: Of LoRA.
        prompt: Tokens of the prompt, the image's 49 embeddings included.
        answer: Tokens of the answer, its end included.
    """
    width = shape.embedding
    tokens = prompt + answer - 1  # the last answer token is predicted, never read
    layers = shape.layers * (4 * width**2 + 3 * width * shape.intermediate)  # weights
    lora = shape.layers * 2 * (2 * width * rank)
    head = shape.vocabulary * width
    forwards = 2 * (layers + lora) * tokens + 2 * head * answer
    backwards = 2 * (layers + 2 * lora) * tokens + 2 * head * answer
    learn = forwards + backwards + _projection(shape)
    return LearningCost(_encoders(shape), learn, 2 * (layers + lora) * tokens)


def _projection(shape: Shape) -> float:
    first = _GROUP * shape.encoder_width * shape.projection_hidden
    second = shape.projection_hidden * shape.embedding
    return 2 * IMAGE_EMBEDDINGS * (2 * first + 3 * second)


def _encoders(shape: Shape) -> float:
    width = shape.encoder_width
    block = 4 * width**2 + 2 * 4 * width**2  # attention's four matrices, and two four times as wide
    flops = 0.0
    for patches, values in zip(_PATCHES, _PATCH_VALUES, strict=True):
        embedding = values * width * patches
        flops += 2 * (embedding + shape.encoder_layers * block * (patches + 1))  # and a class token
    return flops
