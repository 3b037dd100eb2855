"""Published checkpoints, made here with exactly the names that the published code gives its tensors."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from litegpt.checksums import verify_checksums
from litegpt.convert import Conversion, Shapes, convert
from litegpt.errors import ModelError
from litegpt.identity import ModelIdentity
from litegpt.model_config import ModelConfig, paper_config, read_config
from litegpt.model_folder import LiteGPT
from tests.litegpt.tiny_models import tiny_model

SMALL = Shapes(layers=2, width=24, rank=64, hidden=20, features=80)
State = dict[str, torch.Tensor]


def minigpt_v2(shapes: Shapes) -> State:
    """peft 0.2.0: no ``.default``; llama_proj is one Linear from 5632 to 4096."""
    state = {
        "llama_proj.weight": torch.randn(shapes.width, shapes.hidden),
        "llama_proj.bias": torch.randn(shapes.width),
    }
    for layer in range(shapes.layers):
        for matrix in ("q_proj", "v_proj"):
            prefix = f"llama_model.base_model.model.model.layers.{layer}.self_attn.{matrix}"
            state[f"{prefix}.lora_A.weight"] = torch.randn(shapes.rank, shapes.width)
            state[f"{prefix}.lora_B.weight"] = torch.randn(shapes.width, shapes.rank)
    return state


def litegpt(shapes: Shapes) -> State:
    """peft 0.11.1: ``.default``; language_proj is Linear, GELU, Linear."""
    state = {
        "language_proj.0.weight": torch.randn(shapes.hidden, shapes.features),
        "language_proj.0.bias": torch.randn(shapes.hidden),
        "language_proj.2.weight": torch.randn(shapes.width, shapes.hidden),
        "language_proj.2.bias": torch.randn(shapes.width),
    }
    for name, tensor in minigpt_v2(shapes).items():
        if "lora_" in name:
            name = name.replace("llama_model", "language_model").replace(".weight", ".default.weight")
            state[name] = tensor
    return state


def config() -> ModelConfig:
    return paper_config(ModelIdentity("converted", "1", demonstration=False))


def converted(
    state: State, folder: Path, shapes: Shapes = SMALL, settings: ModelConfig | None = None
) -> Conversion:
    torch.manual_seed(0)
    checkpoint = {"model": state, "optimizer": {"step": 3}, "config": {"lr": 1e-5}, "scaler": {}, "epoch": 2}
    torch.save(checkpoint, folder / "checkpoint.pth")
    return convert(folder / "checkpoint.pth", folder / "out", settings or config(), shapes=shapes)


def test_litegpt_s_own_checkpoint_becomes_a_folder_that_loads(tmp_path: Path) -> None:
    tiny = tiny_model(has_adapter=False)
    tiny.save_pretrained(tmp_path / "out")
    state = litegpt(SMALL)
    settings = replace(tiny.config, has_adapter=True)
    conversion = converted(state, tmp_path, settings=settings)
    assert conversion.form == "LiteGPT" and not conversion.first_linear_is_random
    assert conversion.ignored == () and len(conversion.mapping) == len(state)
    loaded = LiteGPT.from_pretrained(tmp_path / "out", merge=False)
    ours = loaded.model.state_dict()
    for place, name in ((0, "fc1"), (2, "fc2")):
        for part in ("weight", "bias"):
            expected = state[f"language_proj.{place}.{part}"].half().float()
            torch.testing.assert_close(ours[f"projection.{name}.{part}"], expected, atol=0, rtol=0)
    for name, tensor in state.items():
        if "lora_" in name:
            torch.testing.assert_close(ours[name], tensor.half().float(), atol=0, rtol=0)
    plain = tiny.model.language_model.state_dict()["model.layers.1.self_attn.v_proj.weight"]
    prefix = "language_model.base_model.model.model.layers.1.self_attn.v_proj"
    a, b = (state[f"{prefix}.lora_{letter}.default.weight"].half().float() for letter in "AB")
    merged = LiteGPT.from_pretrained(tmp_path / "out").model.language_model.state_dict()
    torch.testing.assert_close(
        merged["model.layers.1.self_attn.v_proj.weight"],
        plain.half().float() + 16 / 64 * (b @ a),
        atol=1e-4,
        rtol=1e-4,
    )


def test_minigpt_v2_gives_the_last_linear_and_the_first_is_random(tmp_path: Path) -> None:
    state = minigpt_v2(SMALL)
    conversion = converted(state, tmp_path)
    assert conversion.form == "MiniGPT-v2 stage 3" and conversion.first_linear_is_random
    assert ("llama_proj.bias", "fc2.bias") in conversion.mapping
    projection = load_file(tmp_path / "out" / "projection.safetensors")
    assert {name: tuple(tensor.shape) for name, tensor in projection.items()} == {
        "fc1.weight": (20, 80),
        "fc1.bias": (20,),
        "fc2.weight": (24, 20),
        "fc2.bias": (24,),
    }
    torch.testing.assert_close(projection["fc2.weight"], state["llama_proj.weight"].half())
    torch.manual_seed(0)
    torch.testing.assert_close(projection["fc1.weight"], nn.Linear(80, 20).weight.detach().half())
    adapter = json.loads((tmp_path / "out" / "adapter" / "adapter_config.json").read_text())
    assert (adapter["r"], adapter["lora_alpha"], sorted(adapter["target_modules"])) == (
        64,
        16,
        ["q_proj", "v_proj"],
    )
    assert len(load_file(tmp_path / "out" / "adapter" / "adapter_model.safetensors")) == 8
    said = read_config(tmp_path / "out")
    assert said.identity == ModelIdentity("converted", "1", demonstration=True)
    assert replace(said, identity=config().identity) == config()
    verify_checksums(tmp_path / "out")


@pytest.mark.parametrize("prefix", ["module.", "model.", "module.base_model.model."])
def test_prefixes_and_buffers_are_tolerated(tmp_path: Path, prefix: str) -> None:
    state = {prefix + name: tensor for name, tensor in litegpt(SMALL).items()}
    buffers = [
        "language_model.base_model.model.model.layers.0.self_attn.rotary_emb.inv_freq",
        "language_model.base_model.model.model.layers.0.self_attn.q_proj.base_layer.SCB",
        "visual_encoder.embeddings.position_ids",
    ]
    state |= {name: torch.zeros(3) for name in buffers}
    assert converted(state, tmp_path).ignored == tuple(buffers)


def test_a_bare_state_is_taken_too(tmp_path: Path) -> None:
    torch.save(litegpt(SMALL), tmp_path / "bare.pth")
    assert convert(tmp_path / "bare.pth", tmp_path / "out", config(), shapes=SMALL).form == "LiteGPT"


@pytest.mark.parametrize("make", [minigpt_v2, litegpt])
def test_the_paper_s_full_width(tmp_path: Path, make: object) -> None:
    state = minigpt_v2(Shapes()) if make is minigpt_v2 else litegpt(Shapes())
    assert sum(1 for name in state if "lora_" in name) == 128
    half = {name: tensor.half() for name, tensor in state.items()}
    del state
    conversion = converted(half, tmp_path, shapes=Shapes())
    assert sum(1 for _, ours in conversion.mapping if "lora_" in ours) == 128
    adapter = load_file(tmp_path / "out" / "adapter" / "adapter_model.safetensors")
    projection = load_file(tmp_path / "out" / "projection.safetensors")
    assert sum(tensor.numel() for tensor in adapter.values()) == 33_554_432
    assert sum(tensor.numel() for tensor in projection.values()) == 21_632_512 + 23_072_768
    (tmp_path / "checkpoint.pth").unlink()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"language_proj.0.bias": None}, r"fc1\.bias is missing"),
        ({"language_proj.2.bias": torch.zeros(3)}, r"fc2\.bias is \(3,\) instead of \(24,\)"),
        ({"language_proj.2.bias": torch.full((24,), torch.nan)}, r"fc2\.bias is not finite"),
        (
            {
                "language_model.base_model.model.model.layers.1.self_attn.q_proj.lora_A.default.weight": None,
            },
            r"7 of 8 LoRA tensors\) .*layers\.1\.self_attn\.q_proj\.lora_A\.weight is missing",
        ),
        (
            {"language_model.base_model.model.model.layers.2.self_attn.q_proj.lora_A.weight": torch.ones(1)},
            r"layers\.2\.self_attn\.q_proj\.lora_A\.weight is one too many",
        ),
        ({"language_model.lm_head.weight": torch.ones(2)}, r"1 tensors .* no place: language_model\.lm_head"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_written(
    tmp_path: Path, change: dict[str, torch.Tensor | None], message: str
) -> None:
    state = {name: tensor for name, tensor in (litegpt(SMALL) | change).items() if tensor is not None}
    with pytest.raises(ModelError, match=message) as caught:
        converted(state, tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_neither_is_refused_with_what_was_found(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"neither .* nor .*: it holds only layer4\.weight, fc\.bias$"):
        converted({"layer4.weight": torch.ones(2), "fc.bias": torch.ones(1)}, tmp_path)
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ModelError, match="holds no tensors by name, but a list"):
        convert(tmp_path / "list.pth", tmp_path / "out", config())
    (tmp_path / "text.pth").write_text("no checkpoint")
    with pytest.raises(ModelError, match=r"text\.pth cannot be read"):
        convert(tmp_path / "text.pth", tmp_path / "out", config())
    with pytest.raises(ModelError, match=r"absent\.pth cannot be read"):
        convert(tmp_path / "absent.pth", tmp_path / "out", config())


def test_two_names_for_one_tensor_are_refused(tmp_path: Path) -> None:
    state = litegpt(SMALL)
    state["module.language_proj.0.bias"] = state["language_proj.0.bias"]
    with pytest.raises(ModelError, match=r"fc1\.bias is there twice"):
        converted(state, tmp_path)
