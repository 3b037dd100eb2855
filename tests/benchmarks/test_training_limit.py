"""The cost of learning that is worked out is what PyTorch counts, and what the document says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.machine import DATA_SHEETS
from benchmarks.random_model import PAPER, SMALL, random_model
from benchmarks.training_limit import LearningCost, learning_cost
from litegpt.model_folder import LiteGPT, add_adapter
from litegpt.prompts import tokenise_prompt
from training.optimisers import choose_trained
from training.recipe import read_recipe

PROMPT, ANSWER, IMAGES = 135, 60, 4
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "training.md"


@pytest.fixture(scope="module")
def loaded() -> LiteGPT:
    made = random_model(SMALL, dtype=torch.float32, device="cpu", prompt_tokens=PROMPT, answer_tokens=ANSWER)
    add_adapter(made.model)
    choose_trained(read_recipe("paper/grounding"), made.model)
    made.model.train()
    return made


def _products(counter: FlopCounterMode) -> float:
    """Of matrices, without attention's own, for one image."""
    counts: dict[Any, int] = dict(counter.get_flop_counts()["Global"])
    kept = [flops for operation, flops in counts.items() if "attention" not in str(operation)]
    return sum(kept) / IMAGES


def test_encoding_costs_what_pytorch_counts(loaded: LiteGPT) -> None:
    images = [torch.zeros(IMAGES, 3, 224, 224)] * 2
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        loaded.model.visual_tokens(images)
    assert _products(counter) == pytest.approx(learning_cost(SMALL).encode, rel=0.02)


def test_learning_costs_what_pytorch_counts(loaded: LiteGPT) -> None:
    prompt = tokenise_prompt(loaded.tokenizer, loaded.config.instructions["identify"])
    tokens = torch.zeros(IMAGES, 245, SMALL.encoder_width)
    answers = torch.zeros(IMAGES, ANSWER, dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        embeddings = loaded.model.projection(tokens)
        loaded.model.answer_logits(embeddings, prompt, answers).sum().backward()
    worked_out = learning_cost(SMALL, prompt=PROMPT, answer=ANSWER)
    assert _products(counter) == pytest.approx(worked_out.learn, rel=0.02)


def test_the_document_s_estimate_follows_from_it() -> None:
    cost = learning_cost(PAPER)
    text = DOCUMENT.read_text()
    (shown,) = re.findall(r"(\d\.\d) TFLOP an image", text)
    assert shown == f"{cost.total / 1e12:.1f}"
    rows = re.findall(r"^\| (\w+) \| ([\d,]+) \| (\d+\.\d) h \| (\d+\.\d) h \|$", text, re.MULTILINE)
    assert [row[0] for row in rows] == ["grounding", "diagnosis"]
    for stage, steps, on_h100, on_a100 in rows:
        recipe = read_recipe(f"paper/{stage}")
        assert recipe.steps_per_epoch is not None
        expected = recipe.epochs * recipe.steps_per_epoch
        assert int(steps.replace(",", "")) == expected
        for name, hours in (("NVIDIA H100 80GB HBM3", on_h100), ("NVIDIA A100-SXM4-80GB", on_a100)):
            assert hours == f"{_hours(cost, expected * recipe.batch_size, DATA_SHEETS[name].flops):.1f}"


def _hours(cost: LearningCost, images: int, flops: float) -> float:
    """At 40 % of the data sheet."""
    return images * cost.total / (0.4 * flops) / 3600
