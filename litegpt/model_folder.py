"""Model folders: what a set of weights consists of on disk, loaded strictly.

    config.json                 id, version, demonstration, encoders, language model, preprocessing, …
    projection.safetensors      fc1.*, fc2.*
    adapter/                    the LoRA adapter, as PEFT writes it
    tokenizer/                  as transformers writes it
    encoders/{a,b}.safetensors  } only where they are not published models, named in config.json
    language_model/             } by hub id or path

A missing, extra or mis-shaped tensor is a ``ModelError`` that names it. Folders that name nothing published
are read without any network.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import ascii_lowercase
from typing import Any, Final, cast

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedTokenizerBase,
)

from litegpt.encoders import Encoder, EncoderSource, new_encoder
from litegpt.errors import ModelError
from litegpt.identity import ModelIdentity, model_folder
from litegpt.model import LiteGPTNetwork
from litegpt.preprocessing import Preprocessing
from litegpt.projection import FUSIONS, Fusion
from litegpt.prompts import INSTRUCTIONS
from litegpt.published_encoders import published_encoder
from litegpt.tensors import compare, load_strictly, plain_state, read_tensors, save_halves
from litegpt.vocabulary import DIAGNOSES, LOCAL_LABELS

_ADAPTER: Final = "adapter"
_TOKENIZER: Final = "tokenizer"
_PROJECTION: Final = "projection.safetensors"
_LANGUAGE_MODEL_WEIGHTS: Final = "model.safetensors"


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The content of ``config.json``.

    Attributes:
        identity: Names the weights.
        preset: ``paper`` or ``phantom``; only a name, everything it implies is written out beside it.
        encoders: Where they come from, in the order of their tokens.
        language_model: Hub id or path, or the sub-folder of this folder.
        language_model_is_published: Whether ``language_model`` is a hub id or path.
        projection_hidden: Width between the projection's Linears.
        has_adapter: Whether there is a LoRA adapter (not yet after pre-training).
        max_new_tokens: Longest answer in tokens.
        fusion: How the encoders come together, see ``litegpt.projection``.
        preprocessing: How images become the one tensor that feeds all encoders; None (``null``): each encoder
            gets its own, in its own size, mean and std.
        instructions: By tag, the text the model was trained with.
    """

    identity: ModelIdentity
    preset: str
    encoders: tuple[EncoderSource, ...]
    language_model: str
    language_model_is_published: bool
    projection_hidden: int
    has_adapter: bool = True
    max_new_tokens: int = 512
    fusion: Fusion = "paper"
    preprocessing: Preprocessing | None = dataclasses.field(default_factory=Preprocessing)
    instructions: Mapping[str, str] = dataclasses.field(default_factory=lambda: dict(INSTRUCTIONS))

    def to_json(self) -> dict[str, Any]:
        """What ``config.json`` holds."""
        return {
            **dataclasses.asdict(self.identity),
            "preset": self.preset,
            "encoders": [source.to_json() for source in self.encoders],
            "language_model": {"name" if self.language_model_is_published else "folder": self.language_model},
            "fusion": self.fusion,
            "projection": {"hidden": self.projection_hidden},
            "adapter": self.has_adapter,
            "max_new_tokens": self.max_new_tokens,
            "preprocessing": None if self.preprocessing is None else self.preprocessing.to_json(),
            "instructions": dict(self.instructions),
            "vocabulary": {"local": list(LOCAL_LABELS), "global": list(DIAGNOSES)},
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ModelConfig:
        """Reads ``config.json``.

        Raises:
            ModelError: If a key is missing, or the model speaks another vocabulary.
        """
        try:
            vocabulary = values["vocabulary"]
            if vocabulary != {"local": list(LOCAL_LABELS), "global": list(DIAGNOSES)}:
                raise ModelError("the model's vocabulary is not the one this version of litegpt speaks")
            language_model, prepared = values["language_model"], values["preprocessing"]
            return cls(
                identity=ModelIdentity(values["id"], values["version"], values["demonstration"]),
                preset=values["preset"],
                encoders=tuple(EncoderSource.from_json(source) for source in values["encoders"]),
                language_model=language_model.get("name") or language_model["folder"],
                language_model_is_published="name" in language_model,
                projection_hidden=int(values["projection"]["hidden"]),
                has_adapter=bool(values["adapter"]),
                max_new_tokens=int(values["max_new_tokens"]),
                fusion=_fusion(values.get("fusion", "paper")),
                preprocessing=None if prepared is None else Preprocessing.from_json(prepared),
                instructions=dict(values["instructions"]),
            )
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise ModelError(f"config.json is not complete: {type(error).__name__} {error}") from None


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model ready for use, in evaluation mode, with what belongs to it."""

    config: ModelConfig
    model: LiteGPTNetwork
    tokenizer: PreTrainedTokenizerBase

    @property
    def preprocessings(self) -> tuple[Preprocessing, ...]:
        """What each encoder gets, for ``litegpt.preprocessing.prepare``."""
        shared = self.config.preprocessing
        encoders = [cast(Encoder, encoder) for encoder in self.model.encoders]
        return tuple(shared or encoder.preprocessing for encoder in encoders)


def paper_config(
    identity: ModelIdentity, language_model: str = "meta-llama/Llama-2-7b-chat-hf"
) -> ModelConfig:
    """The published architecture: BiomedCLIP, PubMedCLIP and Llama-2-7b-chat, by hub id or path."""
    return ModelConfig(
        identity=identity,
        preset="paper",
        encoders=(
            EncoderSource("open_clip", "microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224"),
            EncoderSource("transformers", "flaviagiammarino/pubmed-clip-vit-base-patch32"),
        ),
        language_model=language_model,
        language_model_is_published=True,
        projection_hidden=5632,
    )


def lora_config() -> LoraConfig:
    """The paper's adapter: r 64, alpha 16, on the query and value projections."""
    return LoraConfig(
        r=64,
        lora_alpha=16,
        lora_dropout=0.05,
        target_modules=["q_proj", "v_proj"],
        bias="none",
        task_type="CAUSAL_LM",
    )


def read_config(folder: Path) -> ModelConfig:
    """Reads a model folder's ``config.json``.

    Raises:
        ModelError: If it is no JSON or incomplete.
    """
    try:
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder / 'config.json'} cannot be read: {error}") from None
    return ModelConfig.from_json(values)


def load_model(
    model: str | Path, *, dtype: torch.dtype = torch.float32, device: str = "cpu", merge: bool = True
) -> LoadedModel:
    """Loads a model folder.

    Args:
        model: ``"phantom"`` or a path.
        dtype: Of the weights once loaded. The shipped kind is merged in float32 and then cast.
        device: Where to.
        merge: Merge the LoRA adapter into the language model (for inference); else keep it as PEFT's.

    Raises:
        ModelError: If anything is missing, too much, of the wrong shape, damaged or cannot be fetched.
    """
    folder = model_folder(model)
    config = read_config(folder)
    network = LiteGPTNetwork(
        _load_encoders(folder, config),
        _load_language_model(folder, config, dtype),
        hidden=config.projection_hidden,
        fusion=config.fusion,
    )
    load_strictly(network.projection, read_tensors(folder / _PROJECTION), _PROJECTION)
    tokenizer = _load_tokenizer(folder, config)
    if config.has_adapter:
        network.language_model = _load_adapter(folder, network.language_model, merge=merge)
    vocabulary = cast(Any, network.language_model).config.vocab_size
    if len(tokenizer) > vocabulary:
        raise ModelError(f"{folder}: the tokenizer has {len(tokenizer)} tokens, the model only {vocabulary}")
    network.to(device).eval().requires_grad_(False)
    # Parameters only: the rotary embedding's frequencies are a buffer that has to stay float32.
    for parameter in network.parameters():
        parameter.data = parameter.data.to(dtype)
    return LoadedModel(config, network, tokenizer)


def save_model(
    folder: Path, config: ModelConfig, model: LiteGPTNetwork, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Writes a model folder; weights as float16. What is published is named, not copied."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(config.to_json(), indent=2, ensure_ascii=False) + "\n"
    (folder / "config.json").write_text(text, encoding="utf-8")
    save_halves(model.projection.state_dict(), folder / _PROJECTION)
    for (letter, source), encoder in zip(_lettered(config), model.encoders, strict=True):
        if source.architecture is not None:
            save_halves(encoder.state_dict(), folder / "encoders" / f"{letter}.safetensors")
    language_model = cast(Any, model.language_model)
    if config.has_adapter:
        adapter = copy.copy(language_model.peft_config["default"])
        adapter.inference_mode = True
        published = config.language_model_is_published
        adapter.base_model_name_or_path = config.language_model if published else None
        adapter.save_pretrained(str(folder / _ADAPTER))
        save_halves(_adapter_state(language_model), folder / _ADAPTER / "adapter_model.safetensors")
    if not config.language_model_is_published:
        base = language_model.get_base_model() if config.has_adapter else language_model
        base.config.save_pretrained(folder / config.language_model)
        save_halves(plain_state(base), folder / config.language_model / _LANGUAGE_MODEL_WEIGHTS)
    tokenizer.save_pretrained(str(folder / _TOKENIZER))


def add_adapter(model: LiteGPTNetwork) -> None:
    """Wraps the language model in a fresh LoRA adapter (its effect is zero until trained)."""
    model.language_model = _wrapped(model.language_model, lora_config())


def _lettered(config: ModelConfig) -> list[tuple[str, EncoderSource]]:
    """The encoders with the names of their files in the folder: a, b, …"""
    if not 0 < len(config.encoders) <= len(ascii_lowercase):
        raise ModelError(f"a model has from 1 to {len(ascii_lowercase)} encoders, not {len(config.encoders)}")
    return list(zip(ascii_lowercase, config.encoders, strict=False))


def _fusion(name: object) -> Fusion:
    for fusion in FUSIONS:
        if name == fusion:
            return fusion
    raise ModelError(f"fusion {name!r} is not one of {', '.join(FUSIONS)}")


def _load_encoders(folder: Path, config: ModelConfig) -> list[Encoder]:
    encoders = [_load_encoder(folder, letter, source) for letter, source in _lettered(config)]
    shared = config.preprocessing
    for encoder in encoders:
        if shared is not None and encoder.image_size != shared.size:
            raise ModelError(
                f"preprocessing.size is {shared.size}, but an encoder wants {encoder.image_size} pixels"
            )
    return encoders


def _load_encoder(folder: Path, letter: str, source: EncoderSource) -> Encoder:
    if source.architecture is None:
        return published_encoder(source)
    encoder = new_encoder(source)
    path = folder / "encoders" / f"{letter}.safetensors"
    load_strictly(encoder, read_tensors(path), str(path))
    return encoder


def _load_language_model(folder: Path, config: ModelConfig, dtype: torch.dtype) -> nn.Module:
    if config.language_model_is_published:
        return _published_language_model(config.language_model, dtype)
    path = folder / config.language_model
    try:
        architecture = AutoConfig.from_pretrained(path, local_files_only=True)
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} holds no language model: {error}") from None
    make: Any = AutoModelForCausalLM.from_config
    language_model = make(architecture, dtype=torch.float32)
    language_model.generation_config = GenerationConfig.from_model_config(architecture)
    load_strictly(language_model, read_tensors(path / _LANGUAGE_MODEL_WEIGHTS), str(path))
    language_model.tie_weights()
    return cast(nn.Module, language_model)


def _published_language_model(name: str, dtype: torch.dtype) -> nn.Module:
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(name, dtype=dtype, output_loading_info=True)
    except (OSError, RuntimeError, ValueError) as error:
        raise ModelError(f"language model {name} cannot be loaded: {error}") from error
    language_model, report = loaded
    faults = sorted(report["missing_keys"]) + sorted(report["unexpected_keys"])
    if faults:
        raise ModelError(f"language model {name} has missing or extra tensors: {', '.join(faults)}")
    return cast(nn.Module, language_model)


def _load_adapter(folder: Path, language_model: nn.Module, *, merge: bool) -> nn.Module:
    path = folder / _ADAPTER
    tensors = read_tensors(path / "adapter_model.safetensors")
    try:
        adapter = LoraConfig.from_pretrained(str(path))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} holds no adapter: {error}") from None
    adapter.base_model_name_or_path = None
    wrapped = _wrapped(language_model, adapter)
    compare(_adapter_state(wrapped), tensors, str(path))
    set_peft_model_state_dict(wrapped, tensors)
    return cast(nn.Module, cast(Any, wrapped).merge_and_unload()) if merge else wrapped


def _wrapped(language_model: nn.Module, adapter: LoraConfig) -> PeftModel:
    with warnings.catch_warnings():
        # PEFT 0.21 asks transformers 5.24 for a name that is going to change; nothing of ours is meant.
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
        return cast(PeftModel, get_peft_model(cast(Any, language_model), adapter))


def _adapter_state(wrapped: PeftModel) -> dict[str, torch.Tensor]:
    # Left to itself PEFT asks a hub whether the embeddings were resized. They never are.
    return dict(get_peft_model_state_dict(wrapped, save_embedding_layers=False))


def _load_tokenizer(folder: Path, config: ModelConfig) -> PreTrainedTokenizerBase:
    path = folder / _TOKENIZER
    try:
        if path.is_dir() or not config.language_model_is_published:
            return AutoTokenizer.from_pretrained(str(path), local_files_only=True)
        return AutoTokenizer.from_pretrained(config.language_model)
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} holds no tokenizer: {error}") from None
