"""Files of tensors: read as they are, compared strictly with what a module needs, written as safetensors."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from litegpt.errors import ModelError

Tensors = Mapping[str, torch.Tensor]

LIBRARY_ERRORS: Final = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    SafetensorError,
    StrictDataclassError,
    TypeError,
    ValueError,
)
"""What torch, timm, transformers and peft raise over files and architectures that make no sense; they have no
common base."""

_LONGEST_REASON: Final = 300

_FAULTS_NAMED: Final = 8
"""A folder of another architecture differs in every tensor; the first few tell as much as all of them."""


def load_strictly(module: nn.Module, tensors: Tensors, name: str) -> None:
    """Copies tensors into a module.

    Args:
        module: What to fill.
        tensors: By the module's own names.
        name: What to call the source in the message.

    Raises:
        ModelError: Naming the tensors that are missing, extra or of another shape, the first few of many.
    """
    compare(plain_state(module), tensors, name)
    module.load_state_dict(dict(tensors), strict=False)


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Reads a safetensors file, or one of PyTorch's own (never running what is pickled in it), as float32.

    Raises:
        ModelError: If it is missing, damaged, or holds anything but tensors by name.
    """
    if path.suffix == ".safetensors":
        try:
            return {name: tensor.float() for name, tensor in load_file(path).items()}
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{path} cannot be read: {error}") from None
    values = read_pickled(path)
    if isinstance(values, dict) and isinstance(values.get("state_dict"), dict):
        values = values["state_dict"]
    if not isinstance(values, dict) or not all(isinstance(value, torch.Tensor) for value in values.values()):
        raise ModelError(f"{path} holds something else than tensors by name")
    return {str(name): tensor.float() for name, tensor in values.items()}


def read_pickled(path: Path) -> Any:
    """Reads a file of ``torch.save``: tensors and plain values only, nothing in it is run.

    Raises:
        ModelError: If it is missing, damaged, or would need more than that.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=False)
    except pickle.UnpicklingError:
        raise ModelError(
            f"{path} cannot be read: it is damaged, or holds more than tensors, which is never run"
        ) from None
    except (*LIBRARY_ERRORS, EOFError) as error:
        raise ModelError(f"{path} cannot be read: {one_line(error)}") from None


def save_halves(state: Tensors, path: Path) -> None:
    """Writes tensors as float16 safetensors."""
    path.parent.mkdir(parents=True, exist_ok=True)
    halves = {name: tensor.detach().to("cpu", torch.float16).contiguous() for name, tensor in state.items()}
    save_file(halves, path)
    path.chmod(0o644)  # safetensors writes files that only their owner may read


def compare(expected: Tensors, found: Tensors, name: str) -> None:
    """Compares names and shapes.

    Raises:
        ModelError: Naming what is missing, extra or of another shape, the first few of many.
    """
    faults = [f"{key} is missing" for key in sorted(expected.keys() - found.keys())]
    faults += [f"{key} is one too many" for key in sorted(found.keys() - expected.keys())]
    faults += [
        f"{key} is {tuple(found[key].shape)} instead of {tuple(expected[key].shape)}"
        for key in sorted(expected.keys() & found.keys())
        if found[key].shape != expected[key].shape
    ]
    refuse(faults, name)


def refuse(faults: Sequence[str], name: str) -> None:
    """Raises ``ModelError`` naming the first few faults, if there are any."""
    if faults:
        more = f"; and {len(faults) - _FAULTS_NAMED} more" if len(faults) > _FAULTS_NAMED else ""
        raise ModelError(f"{name} does not fit the model: {'; '.join(faults[:_FAULTS_NAMED])}{more}")


def loading_faults(report: Mapping[str, Any]) -> dict[str, str]:
    """What transformers says of a model it has loaded, by tensor and in the words of ``compare``.

    Args:
        report: Its ``output_loading_info``; without ``ignore_mismatched_sizes`` it keeps the names to itself.
    """
    faults = {key: f"{key} is missing" for key in report["missing_keys"]}
    faults |= {key: f"{key} is one too many" for key in report["unexpected_keys"]}
    faults |= {
        key: f"{key} is {tuple(found)} instead of {tuple(expected)}"
        for key, found, expected in report["mismatched_keys"]
    }
    return dict(sorted(faults.items()))


def plain_state(module: nn.Module) -> dict[str, torch.Tensor]:
    """A module's tensors without PEFT's wrapping, and without those that are tied to another."""
    state = {
        name.replace(".base_layer.", "."): tensor
        for name, tensor in module.state_dict().items()
        if "lora_" not in name
    }
    tied = getattr(module, "_tied_weights_keys", None) or {}
    if getattr(getattr(module, "config", None), "tie_word_embeddings", False):
        for name in tied:
            state.pop(name, None)
    return state


def one_line(error: Exception) -> str:
    """What a library says over many lines, as one; its kind where it says nothing."""
    return " ".join(str(error).split())[:_LONGEST_REASON] or type(error).__name__
