"""Published encoders with their weights, by hub id or from a folder without any network.

open_clip's own loading of a folder asks a hub for the configuration of the text tower, which is not needed
here; so only the visual tower is built, and only ``visual.*`` is loaded.
"""

from __future__ import annotations

import logging
import warnings
from typing import Any, Final, cast

import torch
from torch import nn
from transformers import MODEL_MAPPING, AutoConfig

from litegpt.encoders import (
    Channels,
    Encoder,
    EncoderSource,
    OpenClipEncoder,
    TimmEncoder,
    TransformersEncoder,
)
from litegpt.errors import ModelError
from litegpt.preprocessing import CLIP_MEAN, CLIP_STD, channels
from litegpt.published import published_file, published_json
from litegpt.tensors import LIBRARY_ERRORS, load_strictly, loading_faults, one_line, read_tensors, refuse

logger = logging.getLogger(__name__)

_OPEN_CLIP_WEIGHTS: Final = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
_VISUAL: Final = "visual."
_UNUSED_PARTS: Final = ("pooler", "head", "mask_token", "classifier")
"""Parts of transformers' vision towers that have no say in the last hidden state."""


def published_encoder(source: EncoderSource) -> Encoder:
    """A published encoder with its weights, by hub id or path.

    Raises:
        ModelError: If it cannot be had, or tensors are missing, too many or of another shape.
    """
    if source.name is None:
        raise ModelError(f"a {source.kind} encoder without an architecture must have a name")
    if source.kind == "open_clip":
        return _open_clip_encoder(source.name, source)
    if source.kind == "transformers":
        return _transformers_encoder(source.name, source)
    raise ModelError(f"no published encoder can be loaded as {source.kind!r}")


def _open_clip_encoder(name: str, source: EncoderSource) -> Encoder:
    values = published_json(name, "open_clip_config.json")
    model = {} if values is None else values.get("model_cfg")
    if values is None or not isinstance(model, dict) or "vision_cfg" not in model:
        raise ModelError(
            f"encoder {name} is not open_clip's: it has no open_clip_config.json with a vision_cfg"
        )
    weights = published_file(name, _OPEN_CLIP_WEIGHTS)
    if weights is None:
        raise ModelError(f"encoder {name} has no weights: neither {' nor '.join(_OPEN_CLIP_WEIGHTS)}")
    visual = _visual_tower(name, model)
    tensors = read_tensors(weights)
    ignored = sorted(key for key in tensors if not key.startswith(_VISUAL))
    logger.info("encoder %s: %d tensors not needed: %s", name, len(ignored), ", ".join(ignored))
    ours = {key.removeprefix(_VISUAL): tensors[key] for key in tensors if key.startswith(_VISUAL)}
    load_strictly(visual, ours, f"encoder {name}")
    mean, std = _statistics(values.get("preprocess_cfg") or {}, ("mean", "std"), source) or (
        CLIP_MEAN,
        CLIP_STD,
    )
    trunk = getattr(visual, "trunk", None)
    return TimmEncoder(trunk, mean, std) if trunk is not None else OpenClipEncoder(visual, mean, std)


def _visual_tower(name: str, config: dict[str, Any]) -> nn.Module:
    from open_clip.model import CLIPVisionCfg, _build_vision_tower  # slow to import; the phantom needs it not

    try:
        vision = CLIPVisionCfg(**{**config["vision_cfg"], "timm_model_pretrained": False})
        tower = _build_vision_tower(config["embed_dim"], vision, config.get("quick_gelu", False))
    except LIBRARY_ERRORS as error:
        raise ModelError(f"encoder {name}: its vision tower cannot be built: {one_line(error)}") from None
    return cast(nn.Module, tower)


def _transformers_encoder(name: str, source: EncoderSource) -> Encoder:
    if published_file(name, ["config.json"]) is None:
        raise ModelError(f"encoder {name} is not transformers': it has no config.json")
    try:
        config: Any = AutoConfig.from_pretrained(name)
    except LIBRARY_ERRORS as error:
        raise ModelError(f"encoder {name} cannot be loaded: {one_line(error)}") from None
    config = getattr(config, "vision_config", config)
    if type(config) not in MODEL_MAPPING:
        raise ModelError(f"encoder {name} is no vision tower of transformers")
    tower = _vision_tower(name, MODEL_MAPPING[type(config)])
    prepared = published_json(name, "preprocessor_config.json") or {}
    statistics = _statistics(prepared, ("image_mean", "image_std"), source)
    if statistics is None and config.model_type != "clip_vision_model":
        raise ModelError(f"encoder {name} does not say its images' mean and std, nor does config.json")
    return TransformersEncoder(tower, *(statistics or (CLIP_MEAN, CLIP_STD)))


def _vision_tower(name: str, tower_class: Any) -> nn.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            tower, report = tower_class.from_pretrained(
                name, dtype=torch.float32, output_loading_info=True, ignore_mismatched_sizes=True
            )
    except LIBRARY_ERRORS as error:
        raise ModelError(f"encoder {name} cannot be loaded: {one_line(error)}") from None
    # A whole CLIP checkpoint also holds the text tower, which is not needed: what is extra does not matter.
    faults = [
        fault
        for key, fault in loading_faults(report).items()
        if key not in report["unexpected_keys"] and not any(part in key.split(".") for part in _UNUSED_PARTS)
    ]
    refuse(faults, f"encoder {name}")
    logger.info(
        "encoder %s: %d tensors not needed: %s",
        name,
        len(report["unexpected_keys"]),
        ", ".join(sorted(report["unexpected_keys"])),
    )
    return cast(nn.Module, tower.eval())


def _statistics(
    published: dict[str, Any], names: tuple[str, str], source: EncoderSource
) -> tuple[Channels, Channels] | None:
    """The images' mean and std: as the model folder says, else as the publisher says, else unknown.

    Raises:
        ModelError: If they are no three numbers each.
    """
    mean, std = source.mean or published.get(names[0]), source.std or published.get(names[1])
    if mean is None or std is None:
        return None
    return channels(mean, "mean"), channels(std, "std")
