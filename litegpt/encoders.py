"""The two image encoders, each from pixels to a sequence of patch tokens without CLS.

Encoder A is a timm VisionTransformer: BiomedCLIP's visual trunk in the paper, a small one in the phantom.
Encoder B is a transformers CLIP vision tower: PubMedCLIP's in the paper. Both see the same tensor.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import timm
import torch
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModel

from litegpt.errors import ModelError

EncoderKind = Literal["timm", "open_clip", "transformers"]


@dataclass(frozen=True, slots=True)
class EncoderSource:
    """Where an encoder comes from.

    Attributes:
        kind: ``timm`` and ``transformers`` with a ``folder`` are stored in the model folder itself;
            ``open_clip`` and ``transformers`` with a ``name`` are fetched from a hub or read from a path.
        name: Hub id or path of a published encoder.
        folder: Sub-folder of the model folder.
        architecture: Constructor arguments of an encoder stored in the model folder.
    """

    kind: EncoderKind
    name: str | None = None
    folder: str | None = None
    architecture: dict[str, Any] | None = None


class TimmEncoder(nn.Module):
    """A timm VisionTransformer: all blocks and timm's final LayerNorm, CLS dropped."""

    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk
        self.width = int(cast(int, trunk.embed_dim))
        self.prefix_tokens = int(cast(int, trunk.num_prefix_tokens))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(batch, 3, rows, columns) to (batch, patches, width), row-major."""
        tokens = cast(Any, self.trunk).forward_features(images)  # (batch, 1 + patches, width)
        return cast(torch.Tensor, tokens[:, self.prefix_tokens :])


class ClipEncoder(nn.Module):
    """A CLIP vision tower: its last hidden state, CLS dropped.

    ``post_layernorm`` is not applied: transformers applies it to the pooled CLS token only, and the paper's
    code reads ``last_hidden_state``.
    """

    def __init__(self, tower: CLIPVisionModel) -> None:
        super().__init__()
        self.tower = tower
        self.width = int(tower.config.hidden_size)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(batch, 3, rows, columns) to (batch, patches, width), row-major."""
        hidden = self.tower(pixel_values=images).last_hidden_state  # (batch, 1 + patches, width)
        return cast(torch.Tensor, hidden[:, 1:])


def new_encoder(source: EncoderSource) -> nn.Module:
    """An encoder of the source's architecture with random weights (those of the model folder come later).

    Raises:
        ModelError: If the source is a published one, or its architecture is not one of the library's.
    """
    if source.architecture is None:
        raise ModelError(f"encoder {source.name or source.folder!r} names no architecture to build")
    try:
        if source.kind == "timm":
            trunk = timm.models.vision_transformer.VisionTransformer(**source.architecture, num_classes=0)
            return TimmEncoder(trunk)
        return ClipEncoder(CLIPVisionModel(CLIPVisionConfig(**source.architecture)))
    except TypeError as error:
        raise ModelError(f"the {source.kind} encoder's architecture is not valid: {error}") from None


def published_encoder(source: EncoderSource) -> nn.Module:
    """A published encoder with its weights, by hub id or path.

    Raises:
        ModelError: If it cannot be had, or tensors are missing or too many.
    """
    if source.name is None:
        raise ModelError(f"a {source.kind} encoder without an architecture must have a name")
    if source.kind == "open_clip":
        return _open_clip_trunk(source.name)
    if source.kind == "transformers":
        return _clip_vision_tower(source.name)
    raise ModelError(f"no published encoder can be loaded as {source.kind!r}")


def _open_clip_trunk(name: str) -> TimmEncoder:
    import open_clip  # slow to import, and the phantom never needs it

    location = f"local-dir:{name}" if Path(name).is_dir() else f"hf-hub:{name}"
    try:
        # Without require_pretrained, weights that cannot be had are left random with no more than a warning.
        clip = open_clip.create_model(location, require_pretrained=True)
    except (OSError, RuntimeError, ValueError) as error:
        raise ModelError(f"encoder {name} cannot be loaded: {error}") from error
    trunk = getattr(clip.visual, "trunk", None)
    if trunk is None:
        raise ModelError(f"encoder {name} has no timm trunk")
    return TimmEncoder(trunk)


def _clip_vision_tower(name: str) -> ClipEncoder:
    try:
        loaded: Any = CLIPVisionModel.from_pretrained(name, output_loading_info=True)
    except (OSError, RuntimeError, ValueError) as error:
        raise ModelError(f"encoder {name} cannot be loaded: {error}") from error
    tower, report = loaded
    # A full CLIP checkpoint also holds the text tower, which is not needed: only what is missing matters.
    if report["missing_keys"]:
        raise ModelError(f"encoder {name} lacks {', '.join(sorted(report['missing_keys']))}")
    return ClipEncoder(tower)
