"""The model in the paper's widths, one layer deep, against a plain, independent computation in float32.

Both ViTs are 768 wide, the projection goes 3840 – 5632 – 4096, and the language model is a Llama-2-7b of one
layer, with its 32,000 tokens and LoRA. The agreement is to 1e-4 of the largest magnitude.
"""

from __future__ import annotations

from typing import cast

import torch
from torch.func import functional_call
from transformers import LlamaConfig, LlamaForCausalLM

from litegpt.encoders import EncoderSource, new_encoder
from litegpt.model import LiteGPTNetwork
from litegpt.model_folder import add_adapter
from litegpt.prompts import PromptTokens
from tests.litegpt.test_model import expected_projection, expected_visual_tokens
from training.losses import answer_loss

TOLERANCE = 1e-4

VIT_B_16 = {"img_size": 224, "patch_size": 16, "embed_dim": 768, "depth": 1, "num_heads": 12}
VIT_B_32 = {"image_size": 224, "patch_size": 32, "hidden_size": 768, "num_hidden_layers": 1}
BOS, EOS, FIRST_WORD, TOKENS = 1, 2, 3, 32_000


def full_width() -> LiteGPTNetwork:
    torch.manual_seed(0)
    encoders = [
        new_encoder(EncoderSource("timm", architecture=VIT_B_16)),
        new_encoder(EncoderSource("transformers", architecture=VIT_B_32)),
    ]
    llama = LlamaForCausalLM(LlamaConfig(num_hidden_layers=1))  # all else by default is Llama-2-7b's
    return LiteGPTNetwork(encoders, llama, hidden=5632).eval().requires_grad_(False)


def words(count: int) -> torch.Tensor:
    return torch.randint(FIRST_WORD, TOKENS, (count,))


def assert_agree(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=TOLERANCE * float(expected.abs().max()), rtol=0)


@torch.no_grad()
def test_the_paper_s_widths_agree_with_a_plain_computation() -> None:
    model = full_width()
    llama = cast(LlamaForCausalLM, model.language_model)
    image = torch.randn(1, 3, 224, 224)
    before, after = torch.cat([torch.tensor([BOS]), words(5)]), words(60)
    answer = torch.cat([words(29), torch.tensor([EOS])])

    tokens = expected_visual_tokens(model, image)
    assert tokens.shape == (1, 245, 768)
    assert_agree(model.visual_tokens(image), tokens)
    embeddings = expected_projection(model, tokens)
    assert embeddings.shape == (1, 49, 4096)
    assert_agree(model.image_embeddings(image), embeddings)

    changed, low_rank = {}, {}
    for name in ("q_proj", "v_proj"):
        path = f"model.layers.0.self_attn.{name}"
        a, b = torch.randn(64, 4096) * 0.05, torch.randn(4096, 64) * 0.05
        changed[f"{path}.weight"] = llama.get_parameter(f"{path}.weight") + 16 / 64 * (b @ a)
        low_rank |= {f"base_model.model.{path}.lora_{letter}": x for letter, x in (("A", a), ("B", b))}
    table = llama.model.embed_tokens.weight
    rows = torch.cat([table[before], embeddings[0], table[after], table[answer]])
    start = len(rows) - len(answer)
    labels = torch.cat([torch.full((start,), -100), answer])
    expected = functional_call(llama, changed, (), {"inputs_embeds": rows[None], "labels": labels[None]})

    add_adapter(model)
    for path, value in low_rank.items():
        model.language_model.get_parameter(f"{path}.default.weight").copy_(value)
    prompt = PromptTokens(before[None], after[None])
    logits = model.eval().answer_logits(model.image_embeddings(image), prompt, answer[None])
    assert logits.shape == (1, 30, TOKENS)
    assert_agree(logits[0], expected.logits[0, start - 1 : -1])
    assert_agree(answer_loss(logits, answer[None], None, None), expected.loss)
