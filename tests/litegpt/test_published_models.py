"""The ``paper`` preset's loading code, on folders of the same form as the published models, made small.

BiomedCLIP is an open_clip folder with a timm trunk, PubMedCLIP a transformers CLIPModel with both towers,
Llama-2 a transformers folder with its tokenizer. All by path and without network.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import open_clip
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPModel, LlamaConfig, LlamaForCausalLM

from litegpt.encoders import EncoderSource
from litegpt.errors import ModelError
from litegpt.identity import ModelIdentity
from litegpt.model import LiteGPTNetwork
from litegpt.model_config import ModelConfig, paper_config
from litegpt.model_folder import LiteGPT, add_adapter
from litegpt.preprocessing import CLIP_MEAN, CLIP_STD
from litegpt.prompts import VQA, tokenise_prompt
from litegpt.published import published_file
from litegpt.published_encoders import published_encoder
from litegpt.tokenizer import phantom_tokenizer

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
    pytest.mark.usefixtures("no_network"),
]

WIDTH = 192
"""Of timm's smallest ViT."""


@pytest.fixture(scope="module")
def biomedclip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("biomedclip")
    model_cfg = {
        "embed_dim": 32,
        "vision_cfg": {
            "timm_model_name": "vit_tiny_patch16_224",
            "timm_model_pretrained": False,
            "timm_pool": "",
            "timm_proj": "linear",
            "image_size": 224,
        },
        "text_cfg": {"context_length": 8, "vocab_size": 64, "width": 32, "heads": 2, "layers": 1},
    }
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model_cfg, "preprocess_cfg": {}}))
    torch.manual_seed(0)
    clip = open_clip.create_model(f"local-dir:{folder}")
    torch.save(clip.state_dict(), folder / "open_clip_pytorch_model.bin")
    # BiomedCLIP's text tower is PubMedBERT, whose configuration open_clip fetches even from a local folder.
    model_cfg["text_cfg"] = {"hf_model_name": "litegpt-tests/nowhere", "hf_proj_type": "mlp"}
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": model_cfg, "preprocess_cfg": {"mean": CLIP_MEAN, "std": CLIP_STD}})
    )
    return folder


@pytest.fixture(scope="module")
def pubmedclip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pubmedclip")
    torch.manual_seed(1)
    vision = {
        "hidden_size": WIDTH,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "patch_size": 32,
    }
    text = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "vocab_size": 32,
    }
    CLIPModel(CLIPConfig(vision_config=vision, text_config=text, projection_dim=8)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama")
    torch.manual_seed(2)
    tokenizer = phantom_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(str(folder))
    return folder


def test_biomedclip_is_its_visual_trunk(biomedclip: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "litegpt")
    encoder = published_encoder(EncoderSource("open_clip", str(biomedclip))).eval()
    assert (encoder.image_size, encoder.mean, encoder.std) == (224, CLIP_MEAN, CLIP_STD)
    assert (encoder.prefix_tokens, encoder.tokens, encoder.width) == (1, 196, WIDTH)
    images = torch.randn(1, 3, 224, 224)
    tensors = torch.load(biomedclip / "open_clip_pytorch_model.bin", weights_only=True)
    trunk = timm.create_model("vit_tiny_patch16_224", num_classes=0).eval()
    prefix = "visual.trunk."
    trunk.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
    torch.testing.assert_close(encoder(images), trunk.forward_features(images)[:, 1:], atol=1e-5, rtol=1e-5)
    (said,) = [record.getMessage() for record in caplog.records]
    assert "logit_scale" in said and "positional_embedding" in said and "visual" not in said


def test_open_clip_itself_asks_a_hub_for_what_is_not_needed(biomedclip: Path, no_network: list[str]) -> None:
    """Why the visual tower is built alone; where this passes no longer, open_clip's own way would do."""
    with pytest.raises(Exception):  # noqa: B017 - whatever it raises without a network
        open_clip.create_model(f"local-dir:{biomedclip}")
    assert no_network
    no_network.clear()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"visual.trunk.norm.weight": None}, r"trunk\.norm\.weight is missing"),
        ({"visual.trunk.stray": torch.zeros(2)}, r"trunk\.stray is one too many"),
        ({"visual.trunk.norm.bias": torch.zeros(3)}, r"trunk\.norm\.bias is \(3,\) instead of \(192,\)"),
    ],
)
def test_biomedclip_is_loaded_strictly(
    biomedclip: Path, tmp_path: Path, change: dict[str, torch.Tensor | None], message: str
) -> None:
    (tmp_path / "open_clip_config.json").write_text((biomedclip / "open_clip_config.json").read_text())
    tensors = torch.load(biomedclip / "open_clip_pytorch_model.bin", weights_only=True) | change
    kept = {name: tensor.contiguous() for name, tensor in tensors.items() if tensor is not None}
    save_file(kept, tmp_path / "open_clip_model.safetensors")
    with pytest.raises(ModelError, match=message):
        published_encoder(EncoderSource("open_clip", str(tmp_path)))


def test_what_a_bin_file_would_run_is_not_run(biomedclip: Path, tmp_path: Path) -> None:
    (tmp_path / "open_clip_config.json").write_text((biomedclip / "open_clip_config.json").read_text())
    torch.save({"visual.trunk.norm.weight": _Harmful(tmp_path)}, tmp_path / "open_clip_pytorch_model.bin")
    with pytest.raises(ModelError, match="holds more than tensors, which is never run"):
        published_encoder(EncoderSource("open_clip", str(tmp_path)))
    assert not (tmp_path / "harm").exists()


class _Harmful:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.mkdir, (self._folder / "harm",)


def test_biomedclip_without_weights_is_refused(biomedclip: Path, tmp_path: Path) -> None:
    (tmp_path / "open_clip_config.json").write_text((biomedclip / "open_clip_config.json").read_text())
    with pytest.raises(ModelError, match="has no weights: neither"):
        published_encoder(EncoderSource("open_clip", str(tmp_path)))


def test_pubmedclip_is_its_vision_tower(pubmedclip: Path) -> None:
    encoder = published_encoder(EncoderSource("transformers", str(pubmedclip)))
    images = torch.randn(1, 3, 224, 224)
    tokens = encoder.eval()(images)
    assert tokens.shape == (1, 49, WIDTH)
    whole = CLIPModel.from_pretrained(pubmedclip).eval()
    torch.testing.assert_close(tokens, whole.vision_model(pixel_values=images).last_hidden_state[:, 1:])


def test_pubmedclip_with_a_tensor_missing_is_refused(pubmedclip: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((pubmedclip / "config.json").read_text())
    tensors = load_file(pubmedclip / "model.safetensors")
    name = next(name for name in tensors if "vision" in name and "layers.1" in name and "k_proj.bias" in name)
    del tensors[name]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"fit the model: .*layers\.1\.self_attn.k_proj\.bias is missing$"):
        published_encoder(EncoderSource("transformers", str(tmp_path)))


def test_a_paper_folder_names_its_bases_and_holds_only_what_was_trained(
    biomedclip: Path, pubmedclip: Path, llama: Path, tmp_path: Path
) -> None:
    config = _config(biomedclip, pubmedclip, llama)
    model = LiteGPTNetwork(
        [published_encoder(source) for source in config.encoders],
        LlamaForCausalLM.from_pretrained(llama),
        hidden=config.projection_hidden,
    )
    add_adapter(model)
    LiteGPT(config, model.eval(), phantom_tokenizer()).save_pretrained(tmp_path)
    assert not (tmp_path / "encoders").exists() and not (tmp_path / "language_model").exists()
    loaded = LiteGPT.from_pretrained(tmp_path)
    assert loaded.config == config
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        expected = model.image_embeddings(images)
    torch.testing.assert_close(loaded.model.image_embeddings(images), expected, atol=2e-3, rtol=2e-3)


@pytest.fixture
def paper_folder(biomedclip: Path, pubmedclip: Path, llama: Path, tmp_path: Path) -> Path:
    """With an adapter that matters, over a language model stored in float16, as Llama-2 is."""
    torch.manual_seed(3)
    stored = LlamaForCausalLM.from_pretrained(llama, dtype=torch.float32)
    for parameter in stored.parameters():
        if parameter.ndim > 1:
            parameter.data.normal_(std=0.3)
    stored.half().save_pretrained(tmp_path / "llama16")
    phantom_tokenizer().save_pretrained(str(tmp_path / "llama16"))
    config = _config(biomedclip, pubmedclip, tmp_path / "llama16")
    encoders = [published_encoder(source) for source in config.encoders]
    base = LlamaForCausalLM.from_pretrained(tmp_path / "llama16", dtype=torch.float32)
    network = LiteGPTNetwork(encoders, base, hidden=config.projection_hidden)
    add_adapter(network)
    for name, parameter in network.named_parameters():
        if "lora_" in name:
            parameter.data.normal_(std=0.05)
    LiteGPT(config, network, phantom_tokenizer()).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_adapter_is_merged_in_float32_and_then_cast(paper_folder: Path, dtype: torch.dtype) -> None:
    merged = LiteGPT.from_pretrained(paper_folder, dtype=dtype).model
    assert {parameter.dtype for parameter in merged.parameters()} == {dtype}
    adapter = load_file(paper_folder / "adapter" / "adapter_model.safetensors")
    base = load_file(paper_folder.parent / "llama16" / "model.safetensors")
    state = merged.language_model.state_dict()
    for matrix in ("q_proj", "v_proj", "k_proj"):
        name = f"model.layers.0.self_attn.{matrix}"
        expected = base[f"{name}.weight"].float()
        if matrix != "k_proj":
            a, b = (adapter[f"base_model.model.{name}.lora_{letter}.weight"].float() for letter in "AB")
            expected = expected + 16 / 64 * (b @ a)
        found = state[f"{name}.weight"]
        if dtype == torch.float32:
            torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)
        else:
            # The last bit may differ where two ways of summing in float32 lie on both sides of a half.
            assert (found == expected.to(dtype)).float().mean() > 0.999


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 5e-2), (torch.float16, 5e-3)]
)
def test_merged_answers_are_the_unmerged_ones(
    paper_folder: Path, dtype: torch.dtype, tolerance: float
) -> None:
    """Logits differ by no more than the tolerance times the largest of them."""
    logits = []
    for merge in (True, False):
        loaded = LiteGPT.from_pretrained(paper_folder, dtype=dtype, merge=merge)
        images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(1)).to(dtype)
        prompt = tokenise_prompt(loaded.tokenizer, loaded.config.instructions[VQA])
        answers = torch.arange(40, 48).view(2, 4)
        logits.append(
            loaded.model.answer_logits(loaded.model.image_embeddings(images), prompt, answers).float()
        )
    torch.testing.assert_close(logits[0], logits[1], atol=tolerance * float(logits[1].abs().max()), rtol=0)


def test_quantisation_says_what_it_needs(paper_folder: Path) -> None:
    if importlib.util.find_spec("bitsandbytes") is not None:
        pytest.skip("bitsandbytes is installed")
    with pytest.raises(ModelError, match="nf4 needs bitsandbytes, which is not installed"):
        LiteGPT.from_pretrained(paper_folder, quantisation="nf4")


def test_a_quantised_base_stays_unmerged(paper_folder: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is optional and not installed")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device to quantise on")
    loaded = LiteGPT.from_pretrained(paper_folder, dtype=torch.float16, device="cuda:0", quantisation="int8")
    names = [name for name, _ in loaded.model.named_parameters()]
    assert any("lora_" in name for name in names)


def test_the_adapter_stays_out_of_a_published_base(paper_folder: Path) -> None:
    assert sorted(file.name for file in paper_folder.iterdir()) == [
        "adapter",
        "config.json",
        "projection.safetensors",
    ]


def test_a_language_model_that_is_nowhere_is_refused(
    biomedclip: Path, pubmedclip: Path, tmp_path: Path
) -> None:
    config = _config(biomedclip, pubmedclip, tmp_path / "nowhere")
    (tmp_path / "config.json").write_text(json.dumps(config.to_json()))
    with pytest.raises(ModelError, match="nowhere cannot be loaded"):
        LiteGPT.from_pretrained(tmp_path)


def test_a_copy_that_the_hub_s_client_keeps_is_used_without_network(
    pubmedclip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_network: list[str]
) -> None:
    commit, kept = "0" * 40, tmp_path / "models--litegpt-tests--tower"
    shutil.copytree(pubmedclip, kept / "snapshots" / commit)
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text(commit)
    (kept / ".no_exist" / commit).mkdir(parents=True)
    (kept / ".no_exist" / commit / "none.json").touch()  # asked for before, and the hub had none
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    found = published_file("litegpt-tests/tower", ["none.json", "config.json"])
    assert found is not None and found.read_bytes() == (pubmedclip / "config.json").read_bytes()
    assert no_network
    no_network.clear()


def _config(biomedclip: Path, pubmedclip: Path, llama: Path) -> ModelConfig:
    paper = paper_config(ModelIdentity("small", "1", demonstration=False), language_model=str(llama))
    return replace(
        paper,
        encoders=tuple(
            replace(source, name=str(folder))
            for source, folder in zip(paper.encoders, (biomedclip, pubmedclip), strict=True)
        ),
        projection_hidden=16,
    )
