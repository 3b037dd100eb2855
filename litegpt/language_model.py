"""The language model, its LoRA adapter and its tokenizer: loaded, wrapped, merged."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, cast

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    GenerationConfig,
    PreTrainedTokenizerBase,
)

from litegpt.errors import ModelError
from litegpt.published import published_file
from litegpt.tensors import (
    LIBRARY_ERRORS,
    compare,
    load_strictly,
    loading_faults,
    one_line,
    read_tensors,
    refuse,
)

Quantisation = Literal["int8", "nf4"]

WEIGHTS: Final = "model.safetensors"
ADAPTER_WEIGHTS: Final = "adapter_model.safetensors"
_LORA: Final = "LORA"
_TOKENIZER_FILES: Final = ("tokenizer.json", "tokenizer.model", "vocab.json")


def lora_config(rank: int = 64, alpha: int = 16, dropout: float = 0.05) -> LoraConfig:
    """The paper's adapter by default: r 64, alpha 16, on the query and value projections."""
    return LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=["q_proj", "v_proj"],
        bias="none",
        task_type="CAUSAL_LM",
    )


def stored_language_model(path: Path) -> nn.Module:
    """One that lies in a model folder, in float32, loaded strictly.

    Raises:
        ModelError: If it is incomplete, damaged or of another shape than it says.
    """
    if not (path / "config.json").is_file():
        raise ModelError(f"{path} holds no language model: it has no config.json")
    make: Any = AutoModelForCausalLM.from_config
    try:
        architecture = AutoConfig.from_pretrained(path, local_files_only=True)
        language_model = make(architecture, dtype=torch.float32)
    except LIBRARY_ERRORS as error:
        raise ModelError(f"{path} holds no language model: {one_line(error)}") from None
    language_model.generation_config = GenerationConfig.from_model_config(architecture)
    load_strictly(language_model, read_tensors(path / WEIGHTS), str(path))
    language_model.tie_weights()
    return cast(nn.Module, language_model)


def published_language_model(name: str) -> nn.Module:
    """One by hub id or path, in the precision it is stored in: nothing is rounded before the adapter is in.

    Raises:
        ModelError: If it cannot be had, or tensors are missing or too many.
    """
    if published_file(name, ["config.json"]) is None:
        raise ModelError(f"language model {name} cannot be loaded: it has no config.json")
    try:
        stored = AutoConfig.from_pretrained(name).dtype
    except LIBRARY_ERRORS as error:
        raise ModelError(f"language model {name} cannot be loaded: {one_line(error)}") from None
    return _from_transformers(name, dtype=stored or torch.float32)


def quantised_language_model(
    name: str, quantisation: Quantisation, *, dtype: torch.dtype, device: str
) -> nn.Module:
    """One by hub id or path with its matrices in 8 or 4 bit, the rest in ``dtype``.

    Raises:
        ModelError: If bitsandbytes is not installed, or as ``published_language_model``.
    """
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ModelError(f"{quantisation} needs bitsandbytes, which is not installed")
    make: Any = BitsAndBytesConfig
    bits = (
        make(load_in_8bit=True)
        if quantisation == "int8"
        else make(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
    )
    return _from_transformers(name, dtype=dtype, quantization_config=bits, device_map={"": device})


def _from_transformers(name: str, **how: Any) -> nn.Module:
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            name, output_loading_info=True, ignore_mismatched_sizes=True, **how
        )
    except LIBRARY_ERRORS as error:
        raise ModelError(f"language model {name} cannot be loaded: {one_line(error)}") from error
    language_model, report = loaded
    refuse(list(loading_faults(report).values()), f"language model {name}")
    return cast(nn.Module, language_model)


def load_adapter(path: Path, language_model: nn.Module) -> PeftModel:
    """Wraps a language model in an adapter as PEFT saves it.

    Raises:
        ModelError: If it is incomplete, damaged or does not fit the language model.
    """
    tensors = read_tensors(path / ADAPTER_WEIGHTS)
    try:
        kind = LoraConfig.from_json_file(str(path / "adapter_config.json")).get("peft_type")
        if kind != _LORA:
            raise ModelError(f"{path} holds no LoRA adapter, but one of kind {kind}")
        adapter = LoraConfig.from_pretrained(str(path))
        adapter.base_model_name_or_path = None
        wrapped = wrap(language_model, adapter)
    except LIBRARY_ERRORS as error:
        raise ModelError(f"{path} holds no adapter: {one_line(error)}") from None
    compare(adapter_state(wrapped), tensors, str(path))
    set_peft_model_state_dict(wrapped, tensors)
    return wrapped


def merge_adapter(wrapped: PeftModel) -> nn.Module:
    """Adds the adapter to the weights it adapts, in float32 whatever the base is stored in.

    Added in bfloat16, most of LoRA's small changes would be rounded away. Those weights stay float32; the
    caller casts.
    """
    for module in wrapped.modules():
        if isinstance(module, LoraLayer):
            for parameter in cast(nn.Module, module).parameters():
                parameter.data = parameter.data.float()
    return cast(nn.Module, cast(Any, wrapped).merge_and_unload())


def wrap(language_model: nn.Module, adapter: LoraConfig) -> PeftModel:
    """A language model with a fresh adapter, whose effect is zero until it is trained or loaded."""
    with warnings.catch_warnings():
        # PEFT 0.21 asks transformers 5.24 for a name that is going to change; nothing of ours is meant.
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
        return cast(PeftModel, get_peft_model(cast(Any, language_model), adapter))


def adapter_state(wrapped: PeftModel) -> Mapping[str, torch.Tensor]:
    """The adapter's tensors by the names that PEFT saves them under."""
    # Left to itself PEFT asks a hub whether the embeddings were resized. They never are.
    return dict(get_peft_model_state_dict(wrapped, save_embedding_layers=False))


def load_tokenizer(source: str | Path, *, published: bool) -> PreTrainedTokenizerBase:
    """A tokenizer as transformers saves it; without ``published``, never from a network.

    Raises:
        ModelError: If there is none.
    """
    folder = Path(source)
    if folder.is_dir() and not any((folder / file).is_file() for file in _TOKENIZER_FILES):
        raise ModelError(f"{source} holds no tokenizer: no {', '.join(_TOKENIZER_FILES)}")
    try:
        return AutoTokenizer.from_pretrained(str(source), local_files_only=not published)
    except LIBRARY_ERRORS as error:
        raise ModelError(f"{source} holds no tokenizer: {one_line(error)}") from None
