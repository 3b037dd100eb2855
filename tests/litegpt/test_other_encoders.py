"""Encoders other than the paper's, by configuration alone, against the libraries' own towers."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from transformers import (
    Dinov2Config,
    Dinov2Model,
    LlamaForCausalLM,
    ResNetConfig,
    ResNetModel,
    SiglipConfig,
    SiglipModel,
)

from litegpt.encoders import Encoder, EncoderSource, new_encoder
from litegpt.engine import Engine
from litegpt.errors import ModelError
from litegpt.model import LiteGPTNetwork
from litegpt.model_folder import LiteGPT
from litegpt.preprocessing import CLIP_MEAN, CLIP_STD, Preprocessing, prepare, squash
from litegpt.published_encoders import published_encoder
from litegpt.radiograph import Radiograph
from tests.litegpt.tiny_models import tiny_model

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
    pytest.mark.usefixtures("no_network"),
]

HALVES = (0.5, 0.5, 0.5)


@pytest.fixture(scope="module")
def siglip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """32 wide, 112 pixels, 14 × 14 patches of 8, no CLS, mean and std of one half."""
    folder = tmp_path_factory.mktemp("siglip")
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = SiglipConfig(
        vision_config={**sizes, "image_size": 112, "patch_size": 8},
        text_config={**sizes, "vocab_size": 16, "max_position_embeddings": 8},
    )
    SiglipModel(config).save_pretrained(folder)
    statistics = {"image_mean": HALVES, "image_std": HALVES}
    (folder / "preprocessor_config.json").write_text(json.dumps(statistics))
    return folder


@pytest.fixture(scope="module")
def dinov2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 wide, 84 pixels, 6 × 6 patches of 14, a CLS; says no mean or std."""
    folder = tmp_path_factory.mktemp("dinov2")
    torch.manual_seed(1)
    config = Dinov2Config(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=2, image_size=84, patch_size=14
    )
    Dinov2Model(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def openai_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """open_clip's own vision transformer: 64 wide, 7 × 7 patches of 32, a CLS."""
    folder = tmp_path_factory.mktemp("openai")
    vision = {"image_size": 224, "layers": 2, "width": 64, "head_width": 32, "patch_size": 32}
    text = {"context_length": 8, "vocab_size": 64, "width": 32, "heads": 2, "layers": 1}
    config = {"embed_dim": 32, "vision_cfg": vision, "text_cfg": text}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    torch.manual_seed(2)
    torch.save(
        open_clip.create_model(f"local-dir:{folder}").state_dict(), folder / "open_clip_pytorch_model.bin"
    )
    return folder


def test_siglip_has_no_cls(siglip: Path) -> None:
    encoder = published_encoder(EncoderSource("transformers", str(siglip))).eval()
    assert (encoder.image_size, encoder.mean, encoder.std) == (112, HALVES, HALVES)
    assert (encoder.prefix_tokens, encoder.tokens, encoder.width) == (0, 196, 32)
    images = torch.randn(2, 3, 112, 112)
    whole = SiglipModel.from_pretrained(siglip).eval()
    torch.testing.assert_close(encoder(images), whole.vision_model(pixel_values=images).last_hidden_state)


def test_dinov2_takes_mean_and_std_from_the_configuration(dinov2: Path) -> None:
    with pytest.raises(ModelError, match="does not say its images' mean and std"):
        published_encoder(EncoderSource("transformers", str(dinov2)))
    encoder = published_encoder(EncoderSource("transformers", str(dinov2), mean=HALVES, std=HALVES)).eval()
    assert (encoder.prefix_tokens, encoder.tokens, encoder.width, encoder.mean) == (1, 36, 24, HALVES)
    images = torch.randn(2, 3, 84, 84)
    expected = Dinov2Model.from_pretrained(dinov2).eval()(pixel_values=images).last_hidden_state[:, 1:]
    torch.testing.assert_close(encoder(images), expected)


def test_open_clip_s_own_transformer_gives_its_normalised_patch_tokens(openai_clip: Path) -> None:
    encoder = published_encoder(EncoderSource("open_clip", str(openai_clip))).eval()
    assert (encoder.image_size, encoder.mean, encoder.std) == (224, CLIP_MEAN, CLIP_STD)
    assert (encoder.prefix_tokens, encoder.tokens, encoder.width) == (1, 49, 64)
    visual = cast(Any, open_clip.create_model(f"local-dir:{openai_clip}").eval()).visual
    visual.output_tokens = True
    tensors = torch.load(openai_clip / "open_clip_pytorch_model.bin", weights_only=True)
    visual.load_state_dict({k.removeprefix("visual."): v for k, v in tensors.items() if "visual." in k})
    images = torch.randn(2, 3, 224, 224)
    _, expected = visual(images)
    torch.testing.assert_close(encoder(images), expected, atol=1e-5, rtol=1e-5)


def test_a_network_without_patch_tokens_is_refused(tmp_path: Path) -> None:
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1])
    ResNetModel(config).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="ResNetModel does not say its image size, patch and width"):
        published_encoder(EncoderSource("transformers", str(tmp_path), mean=HALVES, std=HALVES))


def test_one_encoder_alone_is_the_paper_s_ablation() -> None:
    both = tiny_model(has_adapter=False).model
    for encoder, group in zip(both.encoders, (4, 1), strict=True):
        alone = LiteGPTNetwork([cast(Encoder, encoder)], both.language_model, hidden=8)
        assert alone.projection.group == group
        assert alone.image_embeddings(torch.randn(2, 3, 224, 224)).shape == (2, 49, 24)


def test_fusion_paper_refuses_what_does_not_come_out(dinov2: Path) -> None:
    llama = tiny_model(has_adapter=False).model.language_model
    encoder = published_encoder(EncoderSource("transformers", str(dinov2), mean=HALVES, std=HALVES))
    with pytest.raises(ModelError, match="36 image tokens cannot be grouped into 49"):
        LiteGPTNetwork([encoder], llama, hidden=8)
    with pytest.raises(ModelError, match="at least one encoder"):
        LiteGPTNetwork([], llama, hidden=8)


def joined(siglip: Path, dinov2: Path) -> LiteGPT:
    """Three encoders of other sizes, widths and statistics: two published, one in the folder."""
    tiny = tiny_model(seed=1)
    small = dataclasses.replace(tiny.config.encoders[1])
    sources = (
        EncoderSource("transformers", str(siglip)),
        small,
        EncoderSource("transformers", str(dinov2), mean=HALVES, std=HALVES),
    )
    encoders = [published_encoder(sources[0]), new_encoder(small), published_encoder(sources[2])]
    config = dataclasses.replace(tiny.config, encoders=sources, fusion="per_encoder", preprocessing=None)
    model = LiteGPTNetwork(encoders, tiny.model.language_model, hidden=20, fusion="per_encoder")
    model.requires_grad_(False)
    for stored in (encoders[1], model.projection, model.language_model):
        for parameter in stored.parameters():
            parameter.copy_(parameter.half().float())
    return LiteGPT(config, model.eval(), tiny.tokenizer)


def test_fusion_per_encoder_pools_each_to_seven_by_seven(siglip: Path, dinov2: Path) -> None:
    model = joined(siglip, dinov2).model
    images = [torch.randn(2, 3, encoder.image_size, encoder.image_size) for encoder in model.encoders]
    first, second = model.projection.fc1, model.projection.fc2
    assert first.in_features == 32 + 16 + 24
    rows = []
    for image in range(2):
        cells = []
        for row in range(7):
            for column in range(7):
                features = []
                for encoder, given in zip(model.encoders, images, strict=True):
                    tokens = encoder(given[image : image + 1])[0]
                    side = {196: 14, 49: 7, 36: 6}[len(tokens)]
                    covered = [
                        tokens[y * side + x]
                        for y in range(row * side // 7, -(-(row + 1) * side // 7))
                        for x in range(column * side // 7, -(-(column + 1) * side // 7))
                    ]
                    mean = torch.stack(covered).mean(dim=0)
                    features.append((mean - mean.mean()) / (mean.var(correction=0) + 1e-5).sqrt())
                cells.append(second(F.gelu(first(torch.cat(features)))))
        rows.append(torch.stack(cells))
    torch.testing.assert_close(model.image_embeddings(images), torch.stack(rows), atol=1e-5, rtol=1e-5)


def test_each_encoder_gets_images_in_its_own_size_and_statistics(siglip: Path, dinov2: Path) -> None:
    loaded = joined(siglip, dinov2)
    pixels = np.random.default_rng(0).integers(0, 256, (300, 200), dtype=np.uint8)
    squashed = squash(loaded.preprocessings, Radiograph(pixels))
    assert (squashed.rows, squashed.columns) == (300, 200)
    tensors = prepare(loaded.preprocessings, [squashed])
    assert [tensor.shape[-1] for tensor in tensors] == [112, 224, 84]
    torch.testing.assert_close(tensors[0], Preprocessing(112, HALVES, HALVES)([Radiograph(pixels)]))
    torch.testing.assert_close(tensors[1], Preprocessing()([Radiograph(pixels)]))


def test_encoders_that_want_the_same_share_one_tensor() -> None:
    loaded = tiny_model()
    image = squash(loaded.preprocessings, Radiograph(np.zeros((20, 30), np.uint8)))
    assert len(prepare(loaded.preprocessings, [image])) == 1
    own = dataclasses.replace(loaded, config=dataclasses.replace(loaded.config, preprocessing=None))
    assert own.preprocessings == loaded.preprocessings


def test_shared_images_of_another_size_than_an_encoder_s_are_refused(tmp_path: Path) -> None:
    loaded = tiny_model()
    config = dataclasses.replace(loaded.config, preprocessing=Preprocessing(size=112))
    dataclasses.replace(loaded, config=config).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"preprocessing\.size is 112, but an encoder wants 224 pixels"):
        LiteGPT.from_pretrained(tmp_path)


def test_a_folder_of_three_encoders_comes_back_and_reads(siglip: Path, dinov2: Path, tmp_path: Path) -> None:
    saved = joined(siglip, dinov2)
    saved.save_pretrained(tmp_path)
    assert [file.name for file in (tmp_path / "encoders").iterdir()] == ["b.safetensors"]
    loaded = LiteGPT.from_pretrained(tmp_path)
    assert loaded.config == saved.config
    images = [torch.randn(1, 3, size, size) for size in (112, 224, 84)]
    torch.testing.assert_close(loaded.model.image_embeddings(images), saved.model.image_embeddings(images))
    assert isinstance(loaded.model.language_model, LlamaForCausalLM)
    picture = Radiograph(np.random.default_rng(1).integers(0, 256, (90, 70), dtype=np.uint8))
    (reading,) = Engine.load(tmp_path, device="cpu").read([picture])
    assert len(reading.answers) == 2


def test_an_unknown_fusion_is_refused(tmp_path: Path) -> None:
    loaded = tiny_model()
    values = {**loaded.config.to_json(), "fusion": "sum"}
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(ModelError, match="fusion 'sum' is not one of paper, per_encoder"):
        LiteGPT.from_pretrained(tmp_path)


@pytest.mark.parametrize("kind", ["open_clip", "transformers"])
class TestWithoutNetwork:
    def test_a_hub_id_is_one_clear_line(self, kind: Any, no_network: list[str]) -> None:
        with pytest.raises(ModelError) as caught:
            published_encoder(EncoderSource(kind, "litegpt-tests/nowhere"))
        assert "litegpt-tests/nowhere" in str(caught.value) and "\n" not in str(caught.value)
        assert "cannot be reached" in str(caught.value)
        assert no_network
        no_network.clear()
