"""The phantom preset before any training: LiteGPT's own code in a size that two CPU cores can teach."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from litegpt.encoders import EncoderSource, new_encoder
from litegpt.identity import PHANTOM, ModelIdentity
from litegpt.model import LiteGPTNetwork
from litegpt.model_config import ModelConfig
from litegpt.model_folder import LiteGPT
from litegpt.tokenizer import phantom_tokenizer
from training.errors import TrainingError

WIDTH: Final = 128
IDENTITY: Final = ModelIdentity("litegpt-phantom", "0.1.0", demonstration=True)

ENCODER_A: Final = EncoderSource(
    "timm",
    folder="encoders",
    architecture={"img_size": 224, "patch_size": 16, "embed_dim": WIDTH, "depth": 6, "num_heads": 4},
)
ENCODER_B: Final = EncoderSource(
    "transformers",
    folder="encoders",
    architecture={
        "image_size": 224,
        "patch_size": 32,
        "hidden_size": WIDTH,
        "intermediate_size": 4 * WIDTH,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "hidden_act": "gelu",
    },
)

ENCODER_C: Final = EncoderSource(
    "timm",
    folder="encoders",
    architecture={"img_size": 224, "patch_size": 32, "embed_dim": WIDTH, "depth": 3, "num_heads": 4},
)
ENCODERS: Final = {"a": ENCODER_A, "b": ENCODER_B, "c": ENCODER_C}
"""By name: the preset's two, and one that another pair can be made with."""

PAIR: Final = ("a", "b")
"""The preset's."""

_EMBEDDING: Final = 192
_PROJECTION_HIDDEN: Final = 256


def new_phantom_model(seed: int, encoders: Sequence[str] = PAIR) -> LiteGPT:
    """The phantom preset with random weights, no adapter yet; the same weights for the same seed.

    Args:
        seed: Of the weights.
        encoders: Names of ``ENCODERS``, in the order of their tokens.

    Raises:
        TrainingError: If there is no such encoder.
    """
    unknown = [name for name in encoders if name not in ENCODERS]
    if unknown or not encoders:
        raise TrainingError(f"encoders {', '.join(encoders)}: there are {', '.join(ENCODERS)}")
    sources = tuple(ENCODERS[name] for name in encoders)
    torch.manual_seed(seed)
    tokenizer = phantom_tokenizer()
    llama = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=_EMBEDDING,
        intermediate_size=512,
        num_hidden_layers=3,
        num_attention_heads=3,
        num_key_value_heads=3,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    config = ModelConfig(
        identity=IDENTITY,
        preset=PHANTOM,
        encoders=sources,
        language_model="language_model",
        language_model_is_published=False,
        projection_hidden=_PROJECTION_HIDDEN,
        has_adapter=False,
        max_new_tokens=128,
        ordered_answers=True,
    )
    model = LiteGPTNetwork(
        [new_encoder(source) for source in sources],
        LlamaForCausalLM(llama),
        hidden=_PROJECTION_HIDDEN,
    )
    return LiteGPT(config, model, tokenizer)
