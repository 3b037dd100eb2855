"""The model with random weights: of the paper's shape, its prompts and answers of the lengths asked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.comparison import parameters_of
from benchmarks.contenders import EngineContender, GenerateContender, Tokens, unmerged
from benchmarks.random_comparison import language_model_cost
from benchmarks.random_model import PAPER, SMALL, endless_grammar, random_model
from benchmarks.roofline import LLAMA_2_7B
from litegpt.answers import read_findings
from litegpt.description import PUBLISHED_PARAMETERS
from litegpt.engine import Engine
from litegpt.model_folder import LiteGPT
from litegpt.projection import IMAGE_EMBEDDINGS
from litegpt.prompts import tokenise_prompt
from litegpt.radiograph import Radiograph

RADIOGRAPHS = [
    Radiograph(np.random.default_rng(seed).integers(0, 256, (64, 64), dtype=np.uint8)) for seed in range(3)
]


def small(prompt_tokens: int = 100, answer_tokens: int = 30) -> LiteGPT:
    torch.manual_seed(0)
    return random_model(
        SMALL, dtype=torch.float32, device="cpu", prompt_tokens=prompt_tokens, answer_tokens=answer_tokens
    )


def test_the_paper_shape_has_the_published_models_parameters() -> None:
    loaded = random_model(PAPER, dtype=torch.bfloat16, device="meta", prompt_tokens=135, answer_tokens=60)
    network = loaded.model
    built = [parameters_of(part) for part in (*network.encoders, network.language_model)]
    assert built == list(PUBLISHED_PARAMETERS.values())
    assert network.projection.fc1.weight.shape == (5632, 3840)
    assert network.projection.fc2.weight.shape == (4096, 5632)
    assert {parameter.dtype for parameter in network.parameters()} == {torch.bfloat16}
    assert language_model_cost(network.language_model) == LLAMA_2_7B


@pytest.mark.parametrize("prompt_tokens", [70, 135])
def test_prompts_are_as_long_as_asked(prompt_tokens: int) -> None:
    loaded = small(prompt_tokens)
    for instruction in loaded.config.instructions.values():
        prompt = tokenise_prompt(loaded.tokenizer, instruction)
        assert prompt.before.shape[1] + IMAGE_EMBEDDINGS + prompt.after.shape[1] == prompt_tokens


def test_a_prompt_that_is_too_short_is_refused() -> None:
    with pytest.raises(ValueError, match="a prompt has at least 5"):
        small(prompt_tokens=50)


@pytest.mark.parametrize("answer_tokens", [20, 90])
def test_answers_are_as_long_as_asked_and_within_the_grammar(answer_tokens: int) -> None:
    loaded = small(answer_tokens=answer_tokens)
    engine = Engine(loaded, "cpu", endless_grammar(loaded.tokenizer, "cpu"))
    for reading in engine.read(RADIOGRAPHS):
        assert reading.failure is None
        for text in reading.answers.values():
            assert len(loaded.tokenizer.encode(text)) == answer_tokens
            whole = text[: text.rindex("}") + 1] if "}" in text else ""
            assert read_findings(whole).malformed == 0
            assert len(read_findings(whole).labels) == whole.count("}")


def test_contenders_count_the_tokens_they_say() -> None:
    loaded = small(answer_tokens=30)
    grammar = endless_grammar(loaded.tokenizer, "cpu")
    opening = loaded.tokenizer.encode("Local diseases of this chest radiograph are <p>")
    ours = EngineContender(loaded, "cpu", grammar, 2)
    assert ours.tokens(ours.read(RADIOGRAPHS)) == Tokens(3 * 2 * 30, 3 * 2 * (30 - len(opening)))
    peer = GenerateContender(loaded, "cpu", 2, adapter=True, answer_tokens=30)
    assert peer.tokens(peer.read(RADIOGRAPHS)) == Tokens(180, 180)


def test_the_unmerged_adapter_leaves_the_model_alone_and_copies_no_weight() -> None:
    loaded = small()
    before = dict(loaded.model.language_model.named_parameters())
    wrapped = unmerged(loaded.model.language_model)
    assert dict(loaded.model.language_model.named_parameters()) == before
    own = [parameter for name, parameter in wrapped.named_parameters() if "lora_" not in name]
    assert {id(parameter) for parameter in own} == {id(parameter) for parameter in before.values()}
    adapted = sum(parameter.numel() for name, parameter in wrapped.named_parameters() if "lora_" in name)
    assert adapted == SMALL.layers * 2 * 2 * 64 * SMALL.embedding  # query and value, A and B, rank 64
