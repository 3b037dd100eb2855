"""Which model speaks: its id, its version, and whether it is only a demonstration. Torch-free.

The node needs a model's identity to name an analysis before any worker has loaded the weights.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from litegpt.errors import ModelError

PHANTOM: Final = "phantom"
"""Name of the demonstration model that ships inside the package."""


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """Names one set of weights.

    Attributes:
        id: Name of the model, such as ``litegpt-phantom``.
        version: Version of the weights; thresholds and scores belong to it.
        demonstration: True where the model was trained on synthetic images and means nothing on patients.
    """

    id: str
    version: str
    demonstration: bool


def model_folder(model: str | Path) -> Path:
    """Where a model's folder is: the shipped one for ``"phantom"``, else the path itself.

    Raises:
        ModelError: If there is no such folder, or it has no ``config.json``.
    """
    folder = Path(str(files("litegpt"))) / "weights" / PHANTOM if str(model) == PHANTOM else Path(model)
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder} is not a model folder: it has no config.json")
    return folder


def config_values(folder: Path) -> dict[str, Any]:
    """What a model folder's ``config.json`` holds, unchecked.

    Raises:
        ModelError: If it cannot be read, or is no JSON object.
    """
    return json_object(folder / "config.json")


def json_object(path: Path) -> dict[str, Any]:
    """A file that holds one JSON object.

    Raises:
        ModelError: If it cannot be read, or holds something else.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from None
    if not isinstance(values, dict):
        raise ModelError(f"{path} is no JSON object")
    return values


def read_identity(model: str | Path) -> ModelIdentity:
    """Reads a model's identity from its ``config.json`` (keys ``id``, ``version``, ``demonstration``).

    Raises:
        ModelError: If the folder or one of the keys is missing, or the file is damaged.
    """
    folder = model_folder(model)
    config = config_values(folder)
    try:
        return ModelIdentity(str(config["id"]), str(config["version"]), bool(config["demonstration"]))
    except KeyError as error:
        raise ModelError(f"{folder / 'config.json'} does not say its {error.args[0]}") from None
