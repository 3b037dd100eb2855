"""Model folders: what a set of weights consists of on disk, loaded strictly.

    config.json                 id, version, demonstration, encoders, language model, checksums, …
    projection.safetensors      fc1.*, fc2.*
    adapter/                    the LoRA adapter, as PEFT writes it
    tokenizer/                  as transformers writes it  }
    encoders/{a,b,…}.safetensors                           } only where they are not published models,
    language_model/                                        } named in config.json by hub id or path

A missing, extra or mis-shaped tensor, and a file that is not the one that was saved, is a ``ModelError`` that
names it. Folders that name nothing published are read without any network.
"""

from __future__ import annotations

import copy
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from string import ascii_lowercase
from typing import Any, Final, cast

import torch
from peft import LoraConfig
from torch import nn
from transformers import PreTrainedTokenizerBase

from litegpt.checksums import KEY, checksums, verify_checksums
from litegpt.encoders import Encoder, EncoderSource, new_encoder
from litegpt.errors import ModelError
from litegpt.identity import PHANTOM, model_folder
from litegpt.language_model import (
    ADAPTER_WEIGHTS,
    WEIGHTS,
    Quantisation,
    adapter_state,
    load_adapter,
    load_tokenizer,
    lora_config,
    merge_adapter,
    published_language_model,
    quantised_language_model,
    stored_language_model,
    wrap,
)
from litegpt.model import LiteGPTNetwork
from litegpt.model_config import ModelConfig, read_config
from litegpt.preprocessing import Preprocessing
from litegpt.prompts import INSTRUCTIONS, tokenise_prompt
from litegpt.published import is_hub_id, published_folder, quiet_transformers
from litegpt.published_encoders import published_encoder
from litegpt.tensors import load_strictly, plain_state, read_tensors, save_halves

logger = logging.getLogger(__name__)

ADAPTER: Final = "adapter"
TOKENIZER: Final = "tokenizer"
PROJECTION: Final = "projection.safetensors"

_LARGEST_PADDING: Final = 1 / 16
"""Part of a published embedding that no token may use: they are padded to a round size, a little above."""


@dataclass(frozen=True, slots=True)
class LiteGPT:
    """A network with what belongs to it, in evaluation mode."""

    config: ModelConfig
    model: LiteGPTNetwork
    tokenizer: PreTrainedTokenizerBase

    @property
    def preprocessings(self) -> tuple[Preprocessing, ...]:
        """What each encoder gets, for ``litegpt.preprocessing.prepare``."""
        shared = self.config.preprocessing
        encoders = [cast(Encoder, encoder) for encoder in self.model.encoders]
        return tuple(shared or encoder.preprocessing for encoder in encoders)

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path,
        *,
        dtype: torch.dtype = torch.float32,
        device: str = "cpu",
        merge: bool = True,
        quantisation: Quantisation | None = None,
    ) -> LiteGPT:
        """Loads a model folder.

        Args:
            model: ``"phantom"``, a path, or the hub id of a model folder.
            dtype: Of the weights once loaded, whatever they are stored in.
            device: Where to.
            merge: Merge the LoRA adapter into the language model (for inference), in float32 before the cast
                to ``dtype``; else keep it as PEFT's.
            quantisation: Language model in 8 or 4 bit by bitsandbytes; the adapter then stays unmerged.

        Raises:
            ModelError: If anything is missing, too much, of the wrong shape, damaged or cannot be fetched.
        """
        folder = _folder(model)
        verified = verify_checksums(folder)
        config = read_config(folder)
        with quiet_transformers():
            network = LiteGPTNetwork(
                _load_encoders(folder, config),
                _load_language_model(folder, config, quantisation, dtype=dtype, device=device),
                hidden=config.projection_hidden,
                fusion=config.fusion,
            )
            load_strictly(network.projection, read_tensors(folder / PROJECTION), str(folder / PROJECTION))
            tokenizer = _load_tokenizer(folder, config, cast(Any, network.language_model).config.vocab_size)
        if config.has_adapter:
            wrapped = load_adapter(folder / ADAPTER, network.language_model)
            network.language_model = merge_adapter(wrapped) if merge and quantisation is None else wrapped
        # Parameters only: the rotary embedding's frequencies are a buffer that has to stay float32.
        for parameter in network.parameters():
            if parameter.is_floating_point():
                parameter.data = parameter.data.to(device, dtype)
        network.to(device).eval().requires_grad_(False)
        if not verified:
            logger.warning("%s has no checksums: its files were taken as they are", folder)
        return cls(config, network, tokenizer)

    def save_pretrained(self, folder: Path) -> None:
        """Writes a model folder; weights as float16. What is published is named, not copied."""
        folder.mkdir(parents=True, exist_ok=True)
        config, network = self.config, self.model
        save_halves(network.projection.state_dict(), folder / PROJECTION)
        for (letter, source), encoder in zip(_lettered(config), network.encoders, strict=True):
            if source.architecture is not None:
                save_halves(encoder.state_dict(), _encoder_file(folder, letter))
        if config.has_adapter:
            self._save_adapter(folder / ADAPTER)
        if not config.language_model_is_published:
            language_model = cast(Any, network.language_model)
            base = language_model.get_base_model() if config.has_adapter else language_model
            base.config.save_pretrained(folder / config.language_model)
            save_halves(plain_state(base), folder / config.language_model / WEIGHTS)
            self.tokenizer.save_pretrained(str(folder / TOKENIZER))
        write_config(folder, config)  # last: it names the others' checksums

    def _save_adapter(self, folder: Path) -> None:
        language_model = cast(Any, self.model.language_model)
        adapter = copy.copy(language_model.peft_config["default"])
        adapter.inference_mode = True
        published = self.config.language_model_is_published
        adapter.base_model_name_or_path = self.config.language_model if published else None
        adapter.save_pretrained(str(folder))
        save_halves(adapter_state(language_model), folder / ADAPTER_WEIGHTS)


def add_adapter(network: LiteGPTNetwork, adapter: LoraConfig | None = None) -> None:
    """Wraps the language model in a fresh LoRA adapter, whose effect is zero until it is trained.

    Args:
        network: Whose language model.
        adapter: Its shape; default: the paper's.
    """
    network.language_model = wrap(network.language_model, adapter or lora_config())


def write_config(folder: Path, config: ModelConfig) -> None:
    """Writes ``config.json``, with the checksums of the files that it speaks of."""
    files = {folder / PROJECTION}
    for letter, source in _lettered(config):
        if source.architecture is not None:
            files.add(_encoder_file(folder, letter))
    folders = [ADAPTER] if config.has_adapter else []
    if not config.language_model_is_published:
        folders += [config.language_model, TOKENIZER]
    for name in folders:
        files |= {file for file in (folder / name).iterdir() if file.is_file()}
    values = {**config.to_json(), KEY: checksums(folder, files)}
    text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
    (folder / "config.json").write_text(text, encoding="utf-8")


def _folder(model: str | Path) -> Path:
    """The folder of a model: the shipped one, a path, or a hub's, fetched."""
    if str(model) != PHANTOM and not Path(model).exists() and is_hub_id(str(model)):
        return model_folder(published_folder(str(model)))
    return model_folder(model)


def encoder_files(folder: Path, config: ModelConfig) -> list[tuple[str, EncoderSource, Path]]:
    """Each encoder's letter, where it comes from, and where its file is if it lies in the folder."""
    return [(letter, source, _encoder_file(folder, letter)) for letter, source in _lettered(config)]


def _lettered(config: ModelConfig) -> list[tuple[str, EncoderSource]]:
    """The encoders with the names of their files in the folder: a, b, …"""
    if not 0 < len(config.encoders) <= len(ascii_lowercase):
        raise ModelError(f"a model has from 1 to {len(ascii_lowercase)} encoders, not {len(config.encoders)}")
    return list(zip(ascii_lowercase, config.encoders, strict=False))


def _encoder_file(folder: Path, letter: str) -> Path:
    return folder / "encoders" / f"{letter}.safetensors"


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
    path = _encoder_file(folder, letter)
    load_strictly(encoder, read_tensors(path), str(path))
    return encoder


def _load_language_model(
    folder: Path, config: ModelConfig, quantisation: Quantisation | None, *, dtype: torch.dtype, device: str
) -> nn.Module:
    published = config.language_model_is_published
    name = config.language_model if published else str(folder / config.language_model)
    if quantisation is not None:
        return quantised_language_model(name, quantisation, dtype=dtype, device=device)
    return published_language_model(name) if published else stored_language_model(Path(name))


def _load_tokenizer(folder: Path, config: ModelConfig, vocabulary: int) -> PreTrainedTokenizerBase:
    """The folder's own; else that of the published language model, whose embedding may be padded.

    Raises:
        ModelError: If there is none, it is another model's, or the instructions cannot be written with it.
    """
    path = folder / TOKENIZER
    own = path.is_dir() or not config.language_model_is_published
    tokenizer = load_tokenizer(path if own else config.language_model, published=not own)
    padding = vocabulary - len(tokenizer)
    if padding < 0 or padding > (0 if own else _LARGEST_PADDING * vocabulary):
        sizes = f"{len(tokenizer)} tokens, the language model's embedding {vocabulary}"
        raise ModelError(f"{folder}: the tokenizer is another model's, it has {sizes}")
    for tag in INSTRUCTIONS:
        if tag not in config.instructions:
            raise ModelError(f"{folder / 'config.json'} has no instruction for [{tag}]")
        tokenise_prompt(tokenizer, config.instructions[tag])
    return tokenizer
