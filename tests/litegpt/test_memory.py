"""Memory planning, by hand-worked numbers of Llama-2-7b."""

from __future__ import annotations

import torch
from transformers import LlamaConfig

from litegpt.memory import cached_token_bytes, largest_batch


def test_a_token_of_llama_2_7b_takes_half_a_megabyte() -> None:
    """2 (keys, values) · 32 layers · 4096 · 2 bytes."""
    assert cached_token_bytes(LlamaConfig(), torch.bfloat16) == 524_288
    assert cached_token_bytes(LlamaConfig(), torch.float32) == 1_048_576


def test_grouped_heads_take_less() -> None:
    config = LlamaConfig(num_key_value_heads=8, num_attention_heads=32)
    assert cached_token_bytes(config, torch.bfloat16) == 131_072


def test_the_batch_fills_what_is_free_but_for_a_fifth() -> None:
    """60 tokens of prefix once and 340 of answers twice, each of 1,000 bytes: 740,000 bytes an image."""
    image = {"token_bytes": 1000, "prefix": 60, "answers": 340}
    assert largest_batch(int(740_000 * 10 / 0.8), **image) == 10
    assert largest_batch(int(740_000 * 10 / 0.8) - 1000, **image) == 9


def test_at_least_one_image_is_tried_and_there_is_an_upper_bound() -> None:
    assert largest_batch(1, token_bytes=1000, prefix=60, answers=340) == 1
    assert largest_batch(10**15, token_bytes=1000, prefix=60, answers=340) == 512
