"""A LiteGPT of tiny, random weights, with everything a real one has: encoders, adapter, tokenizer, folder."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from litegpt.encoders import EncoderSource, new_encoder
from litegpt.identity import ModelIdentity
from litegpt.model import LiteGPTNetwork
from litegpt.model_config import ModelConfig
from litegpt.model_folder import LiteGPT, add_adapter
from litegpt.tokenizer import phantom_tokenizer

WIDTH = 16


def tiny_model(seed: int = 0, *, has_adapter: bool = True) -> LiteGPT:
    """Random weights large enough that every part matters to the logits, the adapter included."""
    torch.manual_seed(seed)
    tokenizer = phantom_tokenizer()
    source_a = EncoderSource(
        "timm",
        folder="encoders",
        architecture={"img_size": 224, "patch_size": 16, "embed_dim": WIDTH, "depth": 2, "num_heads": 2},
    )
    source_b = EncoderSource(
        "transformers",
        folder="encoders",
        architecture={
            "image_size": 224,
            "patch_size": 32,
            "hidden_size": WIDTH,
            "intermediate_size": 2 * WIDTH,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
        },
    )
    llama = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=3,
        num_key_value_heads=3,
        max_position_embeddings=256,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    config = ModelConfig(
        identity=ModelIdentity("tiny", "1", demonstration=True),
        preset="phantom",
        encoders=(source_a, source_b),
        language_model="language_model",
        language_model_is_published=False,
        projection_hidden=20,
        has_adapter=has_adapter,
        max_new_tokens=24,
    )
    encoders = new_encoder(source_a), new_encoder(source_b)
    model = LiteGPTNetwork(encoders, LlamaForCausalLM(llama), hidden=20)
    if has_adapter:
        add_adapter(model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.3)
            elif "norm" not in name:
                parameter.normal_(std=0.1)
    return LiteGPT(config, model.eval().requires_grad_(False), tokenizer)


def save_tiny_model(folder: Path, seed: int = 0) -> LiteGPT:
    """Writes a tiny model's folder; what it returns has the same weights, rounded to float16."""
    loaded = tiny_model(seed)
    for parameter in loaded.model.parameters():
        parameter.copy_(parameter.half().float())
    loaded.save_pretrained(folder)
    return dataclasses.replace(loaded)
