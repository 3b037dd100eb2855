"""The phantom preset before any training: LiteGPT's own code in a size that two CPU cores can teach."""

from __future__ import annotations

from typing import Final

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from litegpt.encoders import EncoderSource, new_encoder
from litegpt.identity import PHANTOM, ModelIdentity
from litegpt.model import LiteGPTNetwork
from litegpt.model_config import ModelConfig
from litegpt.model_folder import LiteGPT
from litegpt.tokenizer import phantom_tokenizer

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

_EMBEDDING: Final = 192
_PROJECTION_HIDDEN: Final = 256


def new_phantom_model(seed: int) -> LiteGPT:
    """The phantom preset with random weights, no adapter yet; the same weights for the same seed."""
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
        encoders=(ENCODER_A, ENCODER_B),
        language_model="language_model",
        language_model_is_published=False,
        projection_hidden=_PROJECTION_HIDDEN,
        has_adapter=False,
        max_new_tokens=128,
        ordered_answers=True,
    )
    model = LiteGPTNetwork(
        [new_encoder(ENCODER_A), new_encoder(ENCODER_B)],
        LlamaForCausalLM(llama),
        hidden=_PROJECTION_HIDDEN,
    )
    return LiteGPT(config, model, tokenizer)
