"""Model folders: the same model comes back, and nothing that does not fit is let through."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file, save_file

from litegpt.checksums import verify_checksums
from litegpt.errors import ModelError
from litegpt.identity import ModelIdentity, model_folder, read_identity
from litegpt.model_config import paper_config, read_config
from litegpt.model_folder import LiteGPT
from litegpt.preprocessing import CLIP_MEAN, CLIP_STD
from litegpt.prompts import IDENTIFY, tokenise_prompt
from litegpt.tokenizer import phantom_tokenizer
from tests.litegpt.tiny_models import save_tiny_model

Tensors = dict[str, torch.Tensor]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Without checksums, as one that was put together by hand: what they would catch is let through to what
    is read after them."""
    save_tiny_model(tmp_path / "model")
    _configure(tmp_path / "model", lambda values: values.pop("checksums"))
    return tmp_path / "model"


@pytest.fixture
def signed(tmp_path: Path) -> Path:
    save_tiny_model(tmp_path / "signed")
    return tmp_path / "signed"


def logits(loaded: Any) -> torch.Tensor:
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    prompt = tokenise_prompt(loaded.tokenizer, loaded.config.instructions[IDENTIFY])
    answers = torch.arange(40, 48).view(2, 4)
    return cast(
        torch.Tensor, loaded.model.answer_logits(loaded.model.image_embeddings(images), prompt, answers)
    )


def test_a_saved_model_comes_back(tmp_path: Path) -> None:
    saved = save_tiny_model(tmp_path / "model", seed=4)
    loaded = LiteGPT.from_pretrained(tmp_path / "model", merge=False)
    torch.testing.assert_close(logits(loaded), logits(saved))
    assert loaded.config == saved.config


def test_merging_the_adapter_changes_nothing_but_the_speed(folder: Path) -> None:
    merged, unmerged = (
        LiteGPT.from_pretrained(folder, merge=True),
        LiteGPT.from_pretrained(folder, merge=False),
    )
    assert not any("lora_" in name for name, _ in merged.model.named_parameters())
    torch.testing.assert_close(logits(merged), logits(unmerged), atol=1e-4, rtol=1e-4)


def test_the_adapter_matters(folder: Path) -> None:
    before = logits(LiteGPT.from_pretrained(folder))
    _edit(
        folder / "adapter" / "adapter_model.safetensors",
        lambda tensors: [t.zero_() for t in tensors.values()],
    )
    assert not torch.allclose(before, logits(LiteGPT.from_pretrained(folder)), atol=1e-3)


def test_the_adapter_is_the_paper_s(folder: Path) -> None:
    adapter = json.loads((folder / "adapter" / "adapter_config.json").read_text())
    assert (adapter["r"], adapter["lora_alpha"], adapter["lora_dropout"]) == (64, 16, 0.05)
    assert sorted(adapter["target_modules"]) == ["q_proj", "v_proj"]
    assert adapter["base_model_name_or_path"] is None


def test_half_precision_leaves_the_rotary_frequencies_alone(folder: Path) -> None:
    half, full = LiteGPT.from_pretrained(folder, dtype=torch.bfloat16), LiteGPT.from_pretrained(folder)
    assert {parameter.dtype for parameter in half.model.parameters()} == {torch.bfloat16}
    frequencies = [cast(Any, one.model.language_model).model.rotary_emb.inv_freq for one in (half, full)]
    torch.testing.assert_close(frequencies[0], frequencies[1], atol=0, rtol=0)


def test_the_identity_can_be_read_alone(folder: Path) -> None:
    assert read_identity(folder) == ModelIdentity("tiny", "1", demonstration=True)


def test_the_paper_s_configuration_survives_json(tmp_path: Path) -> None:
    config = paper_config(ModelIdentity("litegpt", "1", demonstration=False))
    (tmp_path / "config.json").write_text(json.dumps(config.to_json()))
    assert read_config(tmp_path) == config
    assert config.preprocessing.mean == CLIP_MEAN and config.preprocessing.std == CLIP_STD


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("projection.safetensors", "fc1.weight"),
        ("encoders/a.safetensors", "trunk.cls_token"),
        ("encoders/b.safetensors", "tower.pre_layrnorm.weight"),
        ("language_model/model.safetensors", "model.norm.weight"),
        (
            "adapter/adapter_model.safetensors",
            "base_model.model.model.layers.1.self_attn.v_proj.lora_B.weight",
        ),
    ],
)
class TestStrictness:
    def test_a_missing_tensor_is_named(self, folder: Path, file: str, name: str) -> None:
        _edit(folder / file, lambda tensors: tensors.pop(name))
        with pytest.raises(ModelError, match=f"does not fit the model: {name} is missing$"):
            LiteGPT.from_pretrained(folder)

    def test_an_extra_tensor_is_named(self, folder: Path, file: str, name: str) -> None:
        _edit(folder / file, lambda tensors: tensors.update({"stray.weight": torch.zeros(1)}))
        with pytest.raises(ModelError, match=r"does not fit the model: stray\.weight is one too many$"):
            LiteGPT.from_pretrained(folder)

    def test_a_tensor_of_another_shape_is_named(self, folder: Path, file: str, name: str) -> None:
        _edit(folder / file, lambda tensors: tensors.update({name: torch.zeros(3, 5)}))
        with pytest.raises(ModelError, match=rf"{name} is \(3, 5\) instead of \(.+\)$"):
            LiteGPT.from_pretrained(folder)

    def test_a_damaged_file_is_named(self, folder: Path, file: str, name: str) -> None:
        content = (folder / file).read_bytes()
        (folder / file).write_bytes(content[: len(content) // 2])
        with pytest.raises(ModelError, match=f"{Path(file).name} cannot be read"):
            LiteGPT.from_pretrained(folder)

    def test_a_missing_file_is_named(self, folder: Path, file: str, name: str) -> None:
        (folder / file).unlink()
        with pytest.raises(ModelError, match=f"{Path(file).name} cannot be read"):
            LiteGPT.from_pretrained(folder)


def test_several_faults_are_all_named(folder: Path) -> None:
    def spoil(tensors: Tensors) -> None:
        tensors["fc1.bias"] = torch.zeros(3)
        tensors["fc3.bias"] = tensors.pop("fc2.bias")

    _edit(folder / "projection.safetensors", spoil)
    with pytest.raises(ModelError) as caught:
        LiteGPT.from_pretrained(folder)
    for part in ("fc2.bias is missing", "fc3.bias is one too many", "fc1.bias is (3,) instead of (20,)"):
        assert part in str(caught.value)


@pytest.mark.parametrize("key", ["encoders", "projection", "vocabulary", "id", "preprocessing"])
def test_a_missing_key_of_the_configuration_is_named(folder: Path, key: str) -> None:
    _configure(folder, lambda values: values.pop(key))
    with pytest.raises(ModelError, match=f"config.json is not complete: KeyError '{key}'"):
        LiteGPT.from_pretrained(folder)


def test_checksums_are_those_of_sha256sum(signed: Path) -> None:
    said = json.loads((signed / "config.json").read_text())["checksums"]
    files = {file.relative_to(signed).as_posix() for file in signed.rglob("*") if file.is_file()}
    assert set(said) == files - {"config.json"}
    for name, digest in said.items():
        assert hashlib.sha256((signed / name).read_bytes()).hexdigest() == digest


@pytest.mark.parametrize("name", ["projection.safetensors", "adapter/adapter_config.json"])
def test_a_file_that_is_not_the_one_saved_is_named(signed: Path, name: str) -> None:
    content = bytearray((signed / name).read_bytes())
    content[-3] ^= 1
    (signed / name).write_bytes(content)
    with pytest.raises(ModelError, match=rf"{name} is not the file that was saved \(its SHA-256 differs\)$"):
        LiteGPT.from_pretrained(signed)
    (signed / name).unlink()
    with pytest.raises(ModelError, match=rf"{name} is missing$"):
        LiteGPT.from_pretrained(signed)


def test_the_shipped_model_has_checksums() -> None:
    values = json.loads((model_folder("phantom") / "config.json").read_text())
    assert {"projection.safetensors", "encoders/a.safetensors", "encoders/b.safetensors"} < set(
        values["checksums"]
    )
    verify_checksums(model_folder("phantom"))


@pytest.mark.parametrize("change", [-5, 5])
def test_a_tokenizer_of_another_size_than_the_embedding_is_refused(folder: Path, change: int) -> None:
    vocabulary = len(phantom_tokenizer()) + change
    path = folder / "language_model"
    values = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**values, "vocab_size": vocabulary}))
    tensors = load_file(path / "model.safetensors")
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        tensors[name] = torch.zeros(vocabulary, tensors[name].shape[1])
    save_file(tensors, path / "model.safetensors")
    with pytest.raises(ModelError, match=rf"tokenizer is another model's, .* embedding {vocabulary}$"):
        LiteGPT.from_pretrained(folder)


def test_a_hub_id_without_network_is_one_clear_line(blocked_network: list[str]) -> None:
    with pytest.raises(ModelError, match=r"^litegpt-tests/nowhere is no folder here, .* be reached$"):
        LiteGPT.from_pretrained("litegpt-tests/nowhere")
    assert blocked_network


def test_another_vocabulary_is_refused(folder: Path) -> None:
    _configure(folder, lambda values: values["vocabulary"]["local"].append("Fracture"))
    with pytest.raises(ModelError, match="vocabulary is not the one"):
        LiteGPT.from_pretrained(folder)


def test_another_way_of_preparing_images_is_refused(folder: Path) -> None:
    _configure(folder, lambda values: values["preprocessing"].update(resize="crop"))
    with pytest.raises(ModelError, match=r"preprocessing\.resize 'crop' is not supported"):
        LiteGPT.from_pretrained(folder)


def test_a_configuration_that_is_no_json_is_refused(folder: Path) -> None:
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"config.json cannot be read"):
        LiteGPT.from_pretrained(folder)


def test_a_folder_without_configuration_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is not a model folder"):
        LiteGPT.from_pretrained(tmp_path)


def test_a_missing_tokenizer_is_named(folder: Path) -> None:
    for file in (folder / "tokenizer").iterdir():
        file.unlink()
    (folder / "tokenizer").rmdir()
    with pytest.raises(ModelError, match="tokenizer holds no tokenizer"):
        LiteGPT.from_pretrained(folder)


def _edit(path: Path, change: Callable[[Tensors], object]) -> None:
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def _configure(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    values = json.loads((folder / "config.json").read_text())
    change(values)
    (folder / "config.json").write_text(json.dumps(values))
