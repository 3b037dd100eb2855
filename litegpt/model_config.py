"""What a model folder's ``config.json`` says."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from litegpt.encoders import EncoderSource
from litegpt.errors import ModelError
from litegpt.identity import ModelIdentity, config_values
from litegpt.operating_point import OperatingPoint
from litegpt.preprocessing import Preprocessing
from litegpt.projection import FUSIONS, Fusion
from litegpt.prompts import INSTRUCTIONS
from litegpt.vocabulary import DIAGNOSES, LOCAL_LABELS


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
        ordered_answers: Whether the training answers listed findings in canonical order.
        fusion: How the encoders come together, see ``litegpt.projection``.
        preprocessing: How images become the one tensor that feeds all encoders; None (``null``): each encoder
            gets its own, in its own size, mean and std.
        instructions: By tag, the text the model was trained with.
        operating_point: Calibrations and thresholds of this version; None: scores are the model's own, and
            all findings are reported.
    """

    identity: ModelIdentity
    preset: str
    encoders: tuple[EncoderSource, ...]
    language_model: str
    language_model_is_published: bool
    projection_hidden: int
    has_adapter: bool = True
    max_new_tokens: int = 512
    ordered_answers: bool = False
    fusion: Fusion = "paper"
    preprocessing: Preprocessing | None = dataclasses.field(default_factory=Preprocessing)
    instructions: Mapping[str, str] = dataclasses.field(default_factory=lambda: dict(INSTRUCTIONS))
    operating_point: OperatingPoint | None = None

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
            "ordered_answers": self.ordered_answers,
            "preprocessing": None if self.preprocessing is None else self.preprocessing.to_json(),
            "instructions": dict(self.instructions),
            "vocabulary": {"local": list(LOCAL_LABELS), "global": list(DIAGNOSES)},
            "operating_point": None if self.operating_point is None else self.operating_point.to_json(),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ModelConfig:
        """Reads ``config.json``.

        Raises:
            ModelError: If a key is missing, the model speaks another vocabulary, or its operating point makes
                no sense or was measured for another version.
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
                ordered_answers=bool(values.get("ordered_answers", False)),
                fusion=_fusion(values.get("fusion", "paper")),
                preprocessing=None if prepared is None else Preprocessing.from_json(prepared),
                instructions=dict(values["instructions"]),
                operating_point=_operating_point(values),
            )
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise ModelError(f"config.json is not complete: {type(error).__name__} {error}") from None


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


def read_config(folder: Path) -> ModelConfig:
    """Reads a model folder's ``config.json``.

    Raises:
        ModelError: If it is no JSON or incomplete.
    """
    return ModelConfig.from_json(config_values(folder))


def _fusion(name: object) -> Fusion:
    for fusion in FUSIONS:
        if name == fusion:
            return fusion
    raise ModelError(f"fusion {name!r} is not one of {', '.join(FUSIONS)}")


def _operating_point(values: Mapping[str, Any]) -> OperatingPoint | None:
    stored = values.get("operating_point")
    if stored is None:
        return None
    point = OperatingPoint.from_json(stored)
    if point.version != str(values["version"]):
        raise ModelError(
            f"the operating point was measured for version {point.version}, but this model is version "
            f"{values['version']}: calibrate it again"
        )
    return point
