"""Image encoders: each from pixels to a sequence of patch tokens, without CLS or other prefix tokens.

The paper's are BiomedCLIP's visual trunk (a timm VisionTransformer, 196 tokens) and PubMedCLIP's vision tower
(transformers, 49 tokens); the phantom's are small ones of the same classes. Published ones are loaded in
``litegpt.published_encoders``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import timm
import torch
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModel

from litegpt.errors import ModelError
from litegpt.preprocessing import CLIP_MEAN, CLIP_STD, Preprocessing, channels
from litegpt.tensors import LIBRARY_ERRORS, one_line

EncoderKind = Literal["timm", "open_clip", "transformers"]
Channels = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class EncoderSource:
    """Where an encoder comes from.

    Attributes:
        kind: ``timm`` and ``transformers`` with a ``folder`` are stored in the model folder itself;
            ``open_clip`` and ``transformers`` with a ``name`` are fetched from a hub or read from a path.
        name: Hub id or path of a published encoder.
        folder: Sub-folder of the model folder.
        architecture: Constructor arguments of an encoder stored in the model folder.
        mean, std: Of the images it was trained on, per channel; by default what its publisher says.
    """

    kind: EncoderKind
    name: str | None = None
    folder: str | None = None
    architecture: dict[str, Any] | None = None
    mean: Channels | None = None
    std: Channels | None = None

    def to_json(self) -> dict[str, Any]:
        """For ``config.json``."""
        return {key: value for key, value in dataclasses.asdict(self).items() if value is not None}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> EncoderSource:
        """From ``config.json``."""
        triples = {key: channels(values[key], key) for key in ("mean", "std") if key in values}
        return cls(**{**values, **triples})


class Encoder(nn.Module):
    """Images to patch tokens, and what a model must know to be built around it.

    Attributes:
        image_size: Side of its square input in pixels.
        mean, std: Per channel, of values in 0..1.
        prefix_tokens: Tokens before the patches', dropped here (CLS, registers; 0 for SigLIP).
        width: Of each token.
        tokens: Patches of an image, row-major.
    """

    def __init__(
        self, *, image_size: int, mean: Channels, std: Channels, prefix_tokens: int, width: int, tokens: int
    ) -> None:
        super().__init__()
        self.image_size = image_size
        self.mean = mean
        self.std = std
        self.prefix_tokens = prefix_tokens
        self.width = width
        self.tokens = tokens

    @property
    def preprocessing(self) -> Preprocessing:
        """How it wants its images."""
        return Preprocessing(self.image_size, self.mean, self.std)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(batch, 3, size, size) to (batch, tokens, width), row-major."""
        return self.all_tokens(images)[:, self.prefix_tokens :]

    def all_tokens(self, images: torch.Tensor) -> torch.Tensor:
        """(batch, 3, size, size) to (batch, prefix + tokens, width)."""
        raise NotImplementedError


class TimmEncoder(Encoder):
    """A timm VisionTransformer: all blocks and timm's final LayerNorm."""

    def __init__(self, trunk: nn.Module, mean: Channels = CLIP_MEAN, std: Channels = CLIP_STD) -> None:
        """Raises:
        ModelError: If the network is no vision transformer over square images.
        """
        patches: Any = getattr(trunk, "patch_embed", None)
        if not hasattr(trunk, "num_prefix_tokens") or not hasattr(patches, "num_patches"):
            raise ModelError(f"{type(trunk).__name__} is no vision transformer")
        super().__init__(
            image_size=square(patches.img_size, "image size"),
            mean=mean,
            std=std,
            prefix_tokens=int(cast(int, trunk.num_prefix_tokens)),
            width=int(cast(int, trunk.embed_dim)),
            tokens=int(patches.num_patches),
        )
        self.trunk = trunk

    def all_tokens(self, images: torch.Tensor) -> torch.Tensor:
        return cast(torch.Tensor, cast(Any, self.trunk).forward_features(images))


class OpenClipEncoder(Encoder):
    """open_clip's own VisionTransformer: all blocks and its final LayerNorm."""

    def __init__(self, visual: nn.Module, mean: Channels, std: Channels) -> None:
        """Raises:
        ModelError: If the network is no vision transformer over square images.
        """
        tower = cast(Any, visual)
        if not hasattr(visual, "forward_intermediates") or getattr(visual, "attn_pool", None) is not None:
            raise ModelError(f"{type(visual).__name__} gives no patch tokens")
        super().__init__(
            image_size=square(tower.image_size, "image size"),
            mean=mean,
            std=std,
            prefix_tokens=1,
            width=int(tower.conv1.out_channels),
            tokens=square(tower.grid_size, "grid") ** 2,
        )
        self.visual = visual

    def all_tokens(self, images: torch.Tensor) -> torch.Tensor:
        output = cast(Any, self.visual).forward_intermediates(
            images,
            indices=1,  # the last block
            normalize_intermediates=True,
            intermediates_only=True,
            output_fmt="NLC",
            output_extra_tokens=True,
        )
        prefix, patches = output["image_intermediates_prefix"][0], output["image_intermediates"][0]
        return torch.cat([prefix, patches], dim=1)  # (batch, 1 + patches, width)


class TransformersEncoder(Encoder):
    """A vision tower of transformers: its last hidden state.

    CLIP's ``post_layernorm`` is not applied: transformers applies it to the pooled CLS token only, and the
    paper's code reads ``last_hidden_state``.
    """

    def __init__(self, tower: nn.Module, mean: Channels = CLIP_MEAN, std: Channels = CLIP_STD) -> None:
        """Raises:
        ModelError: If the tower does not say its image and patch size, or its images are not square.
        """
        config = cast(Any, tower).config
        try:
            size, patch = square(config.image_size, "image size"), square(config.patch_size, "patch")
            width = int(config.hidden_size)
        except AttributeError:
            raise ModelError(f"{type(tower).__name__} does not say its image size, patch and width") from None
        tokens = (size // patch) ** 2
        with torch.no_grad():
            weight = next(tower.parameters())
            image = torch.zeros(1, 3, size, size, dtype=weight.dtype, device=weight.device)
            hidden = tower(pixel_values=image).last_hidden_state
        if hidden.ndim != 3 or hidden.shape[1] < tokens:
            raise ModelError(f"{type(tower).__name__} gives no patch tokens")
        super().__init__(
            image_size=size,
            mean=mean,
            std=std,
            prefix_tokens=hidden.shape[1] - tokens,
            width=width,
            tokens=tokens,
        )
        self.tower = tower

    def all_tokens(self, images: torch.Tensor) -> torch.Tensor:
        return cast(torch.Tensor, self.tower(pixel_values=images).last_hidden_state)


def new_encoder(source: EncoderSource) -> Encoder:
    """An encoder of the source's architecture with random weights (those of the model folder come later).

    Raises:
        ModelError: If the source is a published one, or its architecture is not one of the library's.
    """
    if source.architecture is None:
        raise ModelError(f"encoder {source.name or source.folder!r} names no architecture to build")
    mean, std = source.mean or CLIP_MEAN, source.std or CLIP_STD
    if source.kind not in ("timm", "transformers"):
        raise ModelError(f"no encoder can be built as {source.kind!r}")
    try:
        if source.kind == "timm":
            trunk = timm.models.vision_transformer.VisionTransformer(**source.architecture, num_classes=0)
            return TimmEncoder(trunk, mean, std)
        return TransformersEncoder(CLIPVisionModel(CLIPVisionConfig(**source.architecture)), mean, std)
    except LIBRARY_ERRORS as error:
        raise ModelError(
            f"the {source.kind} encoder's architecture is not valid: {one_line(error)}"
        ) from None


def square(size: object, what: str) -> int:
    """The side of what is given as one number or as two equal ones.

    Raises:
        ModelError: If the two differ.
    """
    sides = [size, size] if isinstance(size, int) else list(cast(Any, size))
    if len(sides) != 2 or sides[0] != sides[1]:
        raise ModelError(
            f"only square images and patches can be encoded, and this encoder's {what} is {size}"
        )
    return int(sides[0])
