"""A look at a model folder without loading it: is it whole, whose is it, and what is in it. Torch-free."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from litegpt.checksums import KEY, checksums, verify_checksums
from litegpt.errors import ModelError
from litegpt.identity import ModelIdentity, config_values, model_folder, read_identity
from litegpt.vocabulary import DIAGNOSES, LOCAL_LABELS

_LONGEST_NAME: Final = 64
_NEEDED: Final = ("encoders", "language_model", "projection", "adapter", "preprocessing", "instructions")
"""What ``config.json`` says beside names and vocabulary; whether it can be meant shows when it is loaded."""

_PROJECTION: Final = "projection.safetensors"


@dataclass(frozen=True, slots=True)
class Inspected:
    """A model folder that may be loaded.

    Attributes:
        folder: Where it is.
        identity: Whose it is.
        digest: SHA-256 of what is in it.
        verified: Whether it has checksums, so that its files are what was saved.
    """

    folder: Path
    identity: ModelIdentity
    digest: str
    verified: bool


def inspect(model: str | Path) -> Inspected:
    """Looks at a model folder as closely as can be without loading it.

    Raises:
        ModelError: If it cannot be the folder of a model that this version speaks for.
    """
    folder = model_folder(model)
    values = config_values(folder)
    _require_names(folder, values)
    if values.get("vocabulary") != {"local": list(LOCAL_LABELS), "global": list(DIAGNOSES)}:
        raise ModelError(f"{folder}: the vocabulary is not the one that this version of litegpt speaks")
    if missing := [key for key in _NEEDED if key not in values]:
        raise ModelError(f"{folder / 'config.json'} does not say its {', '.join(missing)}")
    if not (folder / _PROJECTION).is_file():
        raise ModelError(f"{folder} is not a whole model folder: it has no {_PROJECTION}")
    verified = verify_checksums(folder)
    return Inspected(folder, read_identity(folder), content_digest(folder), verified)


def content_digest(model: str | Path) -> str:
    """SHA-256 of what is in a model folder: of its ``config.json``, which has the checksums of all else, or
    where it has none, of all its files.

    Raises:
        ModelError: If it cannot be read.
    """
    folder = model_folder(model)
    values = config_values(folder)
    if KEY not in values:
        files = (file for file in folder.rglob("*") if file.is_file() and file.name != "config.json")
        try:
            values = values | {KEY: checksums(folder, files)}
        except OSError as error:
            raise ModelError(f"{folder} cannot be read: {error.strerror}") from None
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _require_names(folder: Path, values: Mapping[str, Any]) -> None:
    """Names stand in reports, in tables and on command lines: short, and in one line."""
    for key in ("id", "version"):
        name = values.get(key)
        if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_NAME or name.strip() != name:
            raise ModelError(f"{folder / 'config.json'}: {key} is no name of 1 to {_LONGEST_NAME} characters")
        if not name.isprintable() or (key == "id" and " " in name):
            raise ModelError(f"{folder / 'config.json'}: {key} has characters that no name may have")
    if not isinstance(values.get("demonstration"), bool):
        raise ModelError(f"{folder / 'config.json'}: demonstration is neither true nor false")
    point = values.get("operating_point")
    if isinstance(point, dict) and str(point.get("version")) != values["version"]:
        measured = f"thresholds were measured for version {point.get('version')}"
        raise ModelError(f"{folder}: its {measured}, but it is version {values['version']}")
