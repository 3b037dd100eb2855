"""A LiteGPT of the paper's shape with random weights, whose answers have a length that is chosen.

What it says means nothing; what it costs is what a trained one costs. Its answers are held to the grammar
like any others, but to one that has no end, and its prompts are filled up to a length.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

import torch
from torch import nn
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerBase

from litegpt.encoders import EncoderSource, new_encoder
from litegpt.grammar import Grammar, compile_grammar
from litegpt.identity import ModelIdentity
from litegpt.model import LiteGPTNetwork
from litegpt.model_config import ModelConfig
from litegpt.model_folder import LiteGPT
from litegpt.projection import IMAGE_EMBEDDINGS
from litegpt.prompts import IDENTIFY, VQA, tokenise_prompt
from litegpt.registers import END, LABEL
from litegpt.tokenizer import number_token, phantom_tokenizer


@dataclass(frozen=True, slots=True)
class Shape:
    """How wide and deep a model's parts are.

    Attributes:
        vocabulary: Rows of the embedding.
        embedding, intermediate, layers, heads: Of the language model, a Llama.
        encoder_width, encoder_layers, encoder_heads: Of both encoders, patches of 16 and of 32 pixels.
        projection_hidden: Width between the projection's Linears.
    """

    vocabulary: int
    embedding: int
    intermediate: int
    layers: int
    heads: int
    encoder_width: int
    encoder_layers: int
    encoder_heads: int
    projection_hidden: int


PAPER: Final = Shape(32000, 4096, 11008, 32, 32, 768, 12, 12, 5632)
"""Llama-2-7b, BiomedCLIP's ViT-B/16, PubMedCLIP's ViT-B/32; from 3840 through 5632 to 4096."""

SMALL: Final = Shape(1000, 64, 160, 2, 4, 32, 2, 2, 48)
"""The same in a size for trying it out."""


def random_model(
    shape: Shape, *, dtype: torch.dtype, device: str, prompt_tokens: int, answer_tokens: int
) -> LiteGPT:
    """Builds one where it will stay, on its device.

    Args:
        shape: Of which widths.
        dtype: Of the weights.
        device: Where.
        prompt_tokens: Of either prompt, the image's 49 embeddings included.
        answer_tokens: Of either answer.

    Raises:
        ValueError: If the prompt is shorter than what it consists of without any instruction.
    """
    tokenizer = phantom_tokenizer()
    sources = _encoder_sources(shape)
    with torch.device(device):
        encoders = [new_encoder(source).to(dtype) for source in sources]
        make: Any = AutoModelForCausalLM.from_config
        language_model = cast(nn.Module, make(_llama(shape, tokenizer), dtype=dtype))
        network = LiteGPTNetwork(encoders, language_model, hidden=shape.projection_hidden)
        network.projection.to(dtype)
    config = ModelConfig(
        identity=ModelIdentity("random", "1", demonstration=True),
        preset="random",
        encoders=sources,
        language_model="language_model",
        language_model_is_published=False,
        projection_hidden=shape.projection_hidden,
        has_adapter=False,
        max_new_tokens=answer_tokens,
        instructions=_instructions(tokenizer, prompt_tokens),
    )
    return LiteGPT(config, network.eval().requires_grad_(False), tokenizer)


def endless_grammar(tokenizer: PreTrainedTokenizerBase, device: str) -> Grammar:
    """The grammar of local answers without its end, for both prompts: one finding follows the other.

    Decoding goes on up to its budget, with everything that the grammar costs at each step.
    """
    grammar = compile_grammar(tokenizer, budget=_ROOM, ordered=False, device=device)
    if grammar.onward is not None:
        raise ValueError("the end can only be taken away where numbers are not merged with what follows them")
    reach = grammar.reach.clone()  # (nodes, edges, 2)
    chooses_label = (grammar.slots == LABEL)[:, None] & (reach[..., 0] >= 0)  # (nodes, edges)
    reach[..., 0] = torch.where(chooses_label, reach[..., 0] & ~(1 << END), reach[..., 0])
    gone = (reach == 0).all(dim=-1)  # (nodes, edges)
    return dataclasses.replace(
        grammar,
        reach=reach,
        highest=grammar.highest.masked_fill(gone, -1),
        bounds=grammar.bounds[-1:],  # there is always room for another finding
        starts={**grammar.starts, VQA: grammar.starts[IDENTIFY]},
    )


_ROOM: Final = 512
"""A budget for compiling the grammar; without an end it makes no difference."""


def _encoder_sources(shape: Shape) -> tuple[EncoderSource, EncoderSource]:
    width, layers, heads = shape.encoder_width, shape.encoder_layers, shape.encoder_heads
    biomed_clip = {"img_size": 224, "patch_size": 16, "embed_dim": width, "depth": layers, "num_heads": heads}
    pubmed_clip = {
        "image_size": 224,
        "patch_size": 32,
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
    }
    return (
        EncoderSource("timm", folder="encoders", architecture=biomed_clip),
        EncoderSource("transformers", folder="encoders", architecture=pubmed_clip),
    )


def _llama(shape: Shape, tokenizer: PreTrainedTokenizerBase) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.embedding,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        max_position_embeddings=4096,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _instructions(tokenizer: PreTrainedTokenizerBase, prompt_tokens: int) -> Mapping[str, str]:
    """Instructions filled up with numbers, a token each."""
    texts = {}
    for tag in (IDENTIFY, VQA):
        empty = tokenise_prompt(tokenizer, f"[{tag}]")
        missing = prompt_tokens - IMAGE_EMBEDDINGS - empty.before.shape[1] - empty.after.shape[1]
        if missing < 0:
            raise ValueError(f"a prompt has at least {prompt_tokens - missing} tokens")
        texts[tag] = f"[{tag}]" + number_token(1) * missing
    return texts
