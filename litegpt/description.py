"""What is in a model folder, how many parameters it has and what memory they need, without loading them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from safetensors import SafetensorError, safe_open

from litegpt.errors import ModelError
from litegpt.identity import model_folder
from litegpt.language_model import ADAPTER_WEIGHTS, WEIGHTS
from litegpt.model_config import ModelConfig, read_config
from litegpt.model_folder import ADAPTER, PROJECTION, encoder_files

PUBLISHED_PARAMETERS: Final = {
    "microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224": 85_798_656,
    "flaviagiammarino/pubmed-clip-vit-base-patch32": 87_456_000,
    "meta-llama/Llama-2-7b-chat-hf": 6_738_415_616,
}
"""Of the part that is used, by hub id: what the paper names, so that it need not be here to be counted."""

BYTES: Final = {"fp32": 4, "bf16": 2, "fp16": 2}
"""Of one parameter, by precision."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a model.

    Attributes:
        name: Such as ``encoder a``.
        source: File in the folder, or hub id or path of what is published.
        parameters: How many; None where that cannot be told without fetching it.
        merged: Whether it is merged into another part once loaded and needs no memory of its own.
    """

    name: str
    source: str
    parameters: int | None
    merged: bool = False


@dataclass(frozen=True, slots=True)
class Description:
    """A model folder as it is described to a person."""

    folder: Path
    config: ModelConfig
    parts: tuple[Part, ...]

    @property
    def unknown(self) -> tuple[str, ...]:
        """Names of the parts whose parameters could not be counted."""
        return tuple(part.name for part in self.parts if part.parameters is None)

    def memory_bytes(self, precision: str) -> int:
        """Memory of the weights that could be counted, once loaded; activations and KV cache come on top."""
        counted = sum(part.parameters or 0 for part in self.parts if not part.merged)
        return counted * BYTES[precision]


def describe(model: str | Path) -> Description:
    """Reads a model folder's configuration and the headers of its files.

    Raises:
        ModelError: If it is no model folder, or a file of it is missing or damaged.
    """
    folder = model_folder(model)
    config = read_config(folder)
    parts = []
    for letter, source, file in encoder_files(folder, config):
        stored = source.architecture is not None
        parts.append(
            _stored(f"encoder {letter}", folder, file)
            if stored
            else _published(f"encoder {letter}", source.name or "")
        )
    parts.append(_stored("projection", folder, folder / PROJECTION))
    name = config.language_model
    if config.language_model_is_published:
        parts.append(_published("language model", name))
    else:
        parts.append(_stored("language model", folder, folder / name / WEIGHTS))
    if config.has_adapter:
        parts.append(_stored("adapter", folder, folder / ADAPTER / ADAPTER_WEIGHTS, merged=True))
    return Description(folder, config, tuple(parts))


def _stored(name: str, folder: Path, file: Path, *, merged: bool = False) -> Part:
    return Part(name, file.relative_to(folder).as_posix(), count_parameters(file), merged)


def _published(name: str, source: str) -> Part:
    """A folder of a language model's whole safetensors is counted; an encoder's holds a text tower too."""
    if name == "language model" and (Path(source) / "config.json").is_file():
        files = sorted(Path(source).glob("*.safetensors"))
        return Part(name, source, sum(map(count_parameters, files)) if files else None)
    return Part(name, source, PUBLISHED_PARAMETERS.get(source))


def count_parameters(file: Path) -> int:
    """Numbers in a safetensors file, from its header alone.

    Raises:
        ModelError: If it is missing or damaged.
    """
    count = 0
    try:
        with safe_open(file, "pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - no mapping, it only has keys()
                size = 1
                for side in tensors.get_slice(name).get_shape():
                    size *= side
                count += size
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{file} cannot be read: {error}") from None
    return count
