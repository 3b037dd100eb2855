"""From a published checkpoint to a model folder: MiniGPT-v2's stage 3, or LiteGPT's own.

Both are ``torch.save`` of ``{"model": state, …}`` in which the state holds what was trained. The names below
were deduced from the published code, and no such file was opened, so tensors are recognised by the end of
their name and by their shape; whatever stands before (``module.``, ``llama_model.``, …) and PEFT's
``.default`` is taken as it comes. What is left over must be a buffer that is known.

    llama_proj.{weight,bias}            MiniGPT-v2: the last Linear; the first one starts at random
    language_proj.{0,2}.{weight,bias}   LiteGPT: both Linears
    ….layers.{i}.self_attn.{q,v}_proj.lora_{A,B}[.default].weight
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

import torch
from torch import nn

from litegpt.errors import ModelError
from litegpt.language_model import ADAPTER_WEIGHTS, lora_config
from litegpt.model_config import ModelConfig
from litegpt.model_folder import ADAPTER, PROJECTION, write_config
from litegpt.tensors import read_pickled, save_halves

Form = Literal["MiniGPT-v2 stage 3", "LiteGPT"]

_LORA: Final = re.compile(
    r"layers\.(?P<layer>\d+)\.self_attn\.(?P<matrix>[qv])_proj\.lora_(?P<letter>[AB])(?:\.default)?\.weight$"
)
_LITEGPT_LINEAR: Final = re.compile(r"(?:^|\.)language_proj\.(?P<place>[02])\.(?P<part>weight|bias)$")
_MINIGPT_LINEAR: Final = re.compile(r"(?:^|\.)llama_proj\.(?P<part>weight|bias)$")
_IGNORED: Final = re.compile(
    r"rotary_emb\.inv_freq$|position_ids$|attn_mask$|\.SCB$|weight_format$|num_batches_tracked$"
    r"|\.(?:absmax|quant_map|nested_absmax|nested_quant_map|quant_state\.\w+)$"
)
"""Buffers that a state may still hold: rotary frequencies, positions, and bitsandbytes' scales."""

_LINEARS: Final = {"0": "fc1", "2": "fc2"}
_NAMES_SHOWN: Final = 6


@dataclass(frozen=True, slots=True)
class Shapes:
    """What the tensors of a checkpoint must measure.

    Attributes:
        layers: Of the language model.
        width: Of the language model.
        rank: Of LoRA.
        hidden: Between the projection's Linears (MiniGPT-v2's input width).
        features: Into the first Linear: tokens of a group × the encoders' width.
    """

    layers: int = 32
    width: int = 4096
    rank: int = 64
    hidden: int = 5632
    features: int = 3840

    def expected(self, form: Form) -> dict[str, tuple[int, ...]]:
        """Shape by the name of our own: 128 LoRA tensors for 32 layers, and the Linears of this form."""
        shapes: dict[str, tuple[int, ...]] = {}
        for layer in range(self.layers):
            for matrix in "qv":
                shapes[_lora_name(layer, matrix, "A")] = (self.rank, self.width)
                shapes[_lora_name(layer, matrix, "B")] = (self.width, self.rank)
        shapes |= {"fc2.weight": (self.width, self.hidden), "fc2.bias": (self.width,)}
        if form == "LiteGPT":
            shapes |= {"fc1.weight": (self.hidden, self.features), "fc1.bias": (self.hidden,)}
        return shapes


@dataclass(frozen=True, slots=True)
class Conversion:
    """What was found and where it went.

    Attributes:
        form: Which of the two it is.
        mapping: Name in the checkpoint and name in the model folder, in the checkpoint's order.
        ignored: Buffers that are not needed.
    """

    form: Form
    mapping: tuple[tuple[str, str], ...]
    ignored: tuple[str, ...]

    @property
    def first_linear_is_random(self) -> bool:
        """Whether the model still has to be trained: MiniGPT-v2 has no first Linear."""
        return self.form != "LiteGPT"


def convert(
    checkpoint: Path, out: Path, config: ModelConfig, *, shapes: Shapes | None = None, seed: int = 0
) -> Conversion:
    """Writes a model folder from a checkpoint.

    Args:
        checkpoint: The ``.pth`` file; nothing that is pickled in it is run.
        out: The model folder.
        config: What the folder will say; names the published encoders and language model. Where the first
            Linear is random the folder says that it is a demonstration, until it is trained.
        shapes: What the tensors must measure; by default the paper's.
        seed: Decides the first Linear, where the checkpoint has none.

    Raises:
        ModelError: If the file is neither of the two forms, or tensors are missing, extra or mis-shaped; then
            nothing is written.
    """
    state = _state(checkpoint)
    form, named, ignored = _recognised(checkpoint, state)
    measures = shapes or Shapes()
    tensors = {ours: state[name] for name, ours in named}
    _check(checkpoint, form, tensors, measures)
    projection = {ours: tensor for ours, tensor in tensors.items() if ours.startswith("fc")}
    if form != "LiteGPT":
        projection |= _random_first_linear(measures, seed)
        config = replace(config, identity=replace(config.identity, demonstration=True))
    adapter = {ours: tensor for ours, tensor in tensors.items() if not ours.startswith("fc")}
    save_halves(projection, out / PROJECTION)
    save_halves(adapter, out / ADAPTER / ADAPTER_WEIGHTS)
    lora = lora_config()
    lora.r, lora.inference_mode = measures.rank, True
    lora.base_model_name_or_path = config.language_model
    lora.save_pretrained(str(out / ADAPTER))
    write_config(out, config)
    return Conversion(form, named, ignored)


def _state(checkpoint: Path) -> dict[str, torch.Tensor]:
    values = read_pickled(checkpoint)
    state: Any = values.get("model", values) if isinstance(values, dict) else None
    if not isinstance(state, dict):
        raise ModelError(f"{checkpoint} holds no tensors by name, but a {type(values).__name__}")
    return {str(name): tensor for name, tensor in state.items() if isinstance(tensor, torch.Tensor)}


def _recognised(
    checkpoint: Path, state: dict[str, torch.Tensor]
) -> tuple[Form, tuple[tuple[str, str], ...], tuple[str, ...]]:
    """The form, the tensors that are needed with our names for them, and those that are not needed."""
    is_litegpt = any(_LITEGPT_LINEAR.search(name) for name in state)
    is_minigpt = any(_MINIGPT_LINEAR.search(name) for name in state)
    if is_litegpt == is_minigpt:
        found = "both" if is_litegpt else f"only {_listed(state)}"
        raise ModelError(
            f"{checkpoint} is neither MiniGPT-v2's stage 3 (llama_proj.*) nor LiteGPT's (language_proj.*): "
            f"it holds {found}"
        )
    named, ignored, strange = [], [], []
    for name in state:
        ours = _our_name(name)
        if ours is not None:
            named.append((name, ours))
        elif _IGNORED.search(name):
            ignored.append(name)
        else:
            strange.append(name)
    ours_only = [ours for _, ours in named]
    if twice := sorted({ours for ours in ours_only if ours_only.count(ours) > 1}):
        raise ModelError(f"{checkpoint}: {twice[0]} is there twice, under two names")
    if strange:
        raise ModelError(f"{checkpoint} holds {len(strange)} tensors that have no place: {_listed(strange)}")
    return "LiteGPT" if is_litegpt else "MiniGPT-v2 stage 3", tuple(named), tuple(ignored)


def _our_name(name: str) -> str | None:
    if found := _LORA.search(name):
        return _lora_name(int(found["layer"]), found["matrix"], found["letter"])
    if found := _LITEGPT_LINEAR.search(name):
        return f"{_LINEARS[found['place']]}.{found['part']}"
    if found := _MINIGPT_LINEAR.search(name):
        return f"fc2.{found['part']}"
    return None


def _check(checkpoint: Path, form: Form, tensors: dict[str, torch.Tensor], shapes: Shapes) -> None:
    expected = shapes.expected(form)
    count = sum(1 for name in tensors if "lora_" in name)
    faults = [f"{name} is missing" for name in expected if name not in tensors]
    faults += [f"{name} is one too many" for name in tensors if name not in expected]
    faults += [
        f"{name} is {tuple(tensor.shape)} instead of {expected[name]}"
        for name, tensor in tensors.items()
        if name in expected and tuple(tensor.shape) != expected[name]
    ]
    faults += [f"{name} is not finite" for name, tensor in tensors.items() if not tensor.isfinite().all()]
    if faults:
        more = f"; and {len(faults) - _NAMES_SHOWN} more" if len(faults) > _NAMES_SHOWN else ""
        wanted = 4 * shapes.layers
        raise ModelError(
            f"{checkpoint} ({form}, {count} of {wanted} LoRA tensors) does not fit the model: "
            f"{'; '.join(faults[:_NAMES_SHOWN])}{more}"
        )


def _random_first_linear(shapes: Shapes, seed: int) -> dict[str, torch.Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        linear = nn.Linear(shapes.features, shapes.hidden)
    return {f"fc1.{name}": tensor for name, tensor in linear.state_dict().items()}


def _lora_name(layer: int, matrix: str, letter: str) -> str:
    return f"base_model.model.model.layers.{layer}.self_attn.{matrix}_proj.lora_{letter}.weight"


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return (", ".join(names[:_NAMES_SHOWN]) or "nothing") + more
