"""The model against a plain, independent computation: the libraries' own modules and hand-written loops."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from transformers import LlamaForCausalLM

from litegpt.encoders import Encoder, EncoderSource, new_encoder
from litegpt.errors import ModelError
from litegpt.model import LiteGPTNetwork
from litegpt.model_folder import LiteGPT
from litegpt.projection import Projection
from litegpt.prompts import IDENTIFY, INSTRUCTIONS, tokenise_prompt
from tests.litegpt.tiny_models import WIDTH, tiny_model

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def plain() -> LiteGPT:
    return tiny_model(seed=3, has_adapter=False)


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(5))


def expected_visual_tokens(model: LiteGPTNetwork, images: torch.Tensor) -> torch.Tensor:
    trunk, tower = cast(Any, model.encoders[0]).trunk, cast(Any, model.encoders[1]).tower
    from_a = trunk.forward_features(images)
    from_b = tower(pixel_values=images, output_hidden_states=True).hidden_states[-1]
    assert from_a.shape[:2] == (len(images), 197) and from_b.shape[:2] == (len(images), 50)
    rows = []
    for image in range(len(images)):
        tokens = [from_a[image, i] for i in range(1, 197)] + [from_b[image, i] for i in range(1, 50)]
        rows.append(torch.stack(tokens))
    return torch.stack(rows)


def expected_projection(model: LiteGPTNetwork, tokens: torch.Tensor) -> torch.Tensor:
    first, second = model.projection.fc1, model.projection.fc2
    rows = []
    for image in tokens:
        for group in range(49):
            parts = []
            for token in image[5 * group : 5 * group + 5].double():
                centred = token - token.mean()
                parts.append(centred / torch.sqrt((centred**2).mean() + 1e-5))
            rows.append(torch.cat(parts))
    hidden = torch.stack(rows) @ first.weight.double().T + first.bias.double()
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
    return (hidden @ second.weight.double().T + second.bias.double()).float().unflatten(0, (-1, 49))


def test_visual_tokens_are_those_of_a_then_those_of_b(plain: LiteGPT, images: torch.Tensor) -> None:
    tokens = plain.model.visual_tokens(images)
    assert tokens.shape == (2, 245, WIDTH)
    torch.testing.assert_close(
        tokens, expected_visual_tokens(plain.model, images), atol=TOLERANCE, rtol=TOLERANCE
    )


def test_projection_groups_five_tokens_in_order(plain: LiteGPT, images: torch.Tensor) -> None:
    tokens = plain.model.visual_tokens(images)
    projected = plain.model.projection(tokens)
    assert projected.shape == (2, 49, 24)
    torch.testing.assert_close(
        projected, expected_projection(plain.model, tokens), atol=TOLERANCE, rtol=TOLERANCE
    )


def test_encoder_b_has_no_post_layernorm(plain: LiteGPT, images: torch.Tensor) -> None:
    """post_layernorm's weights must not matter: the paper reads the last hidden state."""
    before = plain.model.encoders[1](images)
    tower = cast(Any, plain.model.encoders[1]).tower
    norm = tower.post_layernorm if hasattr(tower, "post_layernorm") else tower.vision_model.post_layernorm
    kept = norm.weight.clone()
    norm.weight.fill_(7.0)
    after = plain.model.encoders[1](images)
    norm.weight.copy_(kept)
    torch.testing.assert_close(before, after)


def test_logits_of_an_answer_are_llama_s_own(plain: LiteGPT, images: torch.Tensor) -> None:
    llama = cast(LlamaForCausalLM, plain.model.language_model)
    tokenizer = plain.tokenizer
    instruction = INSTRUCTIONS[IDENTIFY]
    answers = [
        tokenizer.encode(text, add_special_tokens=False) for text in ("Local diseases", "Global one two")
    ]
    length = max(map(len, answers))
    padded = torch.tensor([answer + [0] * (length - len(answer)) for answer in answers])
    embeddings = plain.model.image_embeddings(images)
    logits = plain.model.answer_logits(embeddings, tokenise_prompt(tokenizer, instruction), padded)

    table = llama.model.embed_tokens.weight
    left = [tokenizer.bos_token_id, *tokenizer.encode("[INST] <Img>", add_special_tokens=False)]
    right = tokenizer.encode(f"</Img> {instruction}  [/INST]", add_special_tokens=False)
    for image, answer in enumerate(answers):
        rows = [table[token] for token in left]
        rows += list(expected_projection(plain.model, expected_visual_tokens(plain.model, images))[image])
        rows += [table[token] for token in [*right, *answer]]
        full = llama(inputs_embeds=torch.stack(rows)[None]).logits[0]
        start = len(left) + 49 + len(right) - 1
        torch.testing.assert_close(
            logits[image, : len(answer)], full[start : start + len(answer)], atol=TOLERANCE, rtol=TOLERANCE
        )


def test_tokens_that_make_no_49_groups_are_refused() -> None:
    with pytest.raises(ModelError, match="246 image tokens cannot be grouped into 49"):
        Projection(16, 246, 8, 8)


def test_encoders_of_other_widths_are_refused(plain: LiteGPT) -> None:
    architecture = {"img_size": 224, "patch_size": 16, "embed_dim": 32, "depth": 1, "num_heads": 2}
    wide = new_encoder(EncoderSource("timm", architecture=architecture))
    with pytest.raises(ModelError, match="widths differ: 32 and 16"):
        LiteGPTNetwork([wide, cast(Encoder, plain.model.encoders[1])], plain.model.language_model, hidden=8)


def test_the_paper_s_shapes_come_out_at_full_width() -> None:
    """On the meta device: 245 tokens of 768 become 49 of 4096 through 3840 and 5632."""
    with torch.device("meta"):
        projection = Projection(768, 196 + 49, 5632, 4096)
        out = projection(torch.empty(2, 245, 768))
    assert out.shape == (2, 49, 4096)
    assert projection.fc1.weight.shape == (5632, 3840)
    assert sum(parameter.numel() for parameter in projection.parameters()) == 21_632_512 + 23_072_768
