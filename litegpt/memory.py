"""How many images fit the device's memory at once."""

from __future__ import annotations

from typing import Any, Final

import torch

ON_CPU: Final = 32
"""Images at once on a CPU, where larger batches are no faster."""

EXPECTED_ANSWER: Final = 128
"""Tokens of an answer that memory is planned for; longer ones may find it full: then the batch is halved."""

_MOST: Final = 512
_USED: Final = 0.8
"""Part of the free memory that is planned for; the rest is activations, logits and fragments."""


def cached_token_bytes(language_model_config: Any, dtype: torch.dtype) -> int:
    """Keys and values of one token: 2 · layers · heads · width; Llama-2-7b's in bf16 are 524,288 bytes."""
    config = language_model_config
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * config.num_hidden_layers * heads * width * dtype.itemsize)


def largest_batch(free_bytes: int, *, token_bytes: int, prefix: int, answers: int) -> int:
    """Images that fit, at least one.

    Args:
        free_bytes: Memory that nothing else uses.
        token_bytes: Of one token in the cache.
        prefix: Tokens of an image's prompt up to the image's end.
        answers: Tokens of all its prompts and answers; there twice while a cache grows or loses rows.
    """
    image_bytes = (prefix + 2 * answers) * token_bytes
    return max(1, min(_MOST, int(free_bytes * _USED) // image_bytes))


def free_bytes(device: str) -> int:
    """Free memory of a CUDA device."""
    free, _ = torch.cuda.mem_get_info(device)
    return int(free)


def device_name() -> str:
    """What models of this process are computed on, as a person calls it."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"


def used_bytes() -> int | None:
    """Memory of this process's CUDA device that is in use, by all programs; ``None`` where there is none."""
    if not torch.cuda.is_available():
        return None
    free, total = torch.cuda.mem_get_info()
    return int(total - free)
