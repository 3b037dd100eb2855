"""Which model speaks: its id, its version, and whether it is only a demonstration. Torch-free.

The node needs a model's identity to name an analysis before any worker has loaded the weights.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Final

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


def read_identity(model: str | Path) -> ModelIdentity:
    """Reads a model's identity from its ``config.json`` (keys ``id``, ``version``, ``demonstration``).

    Raises:
        ModelError: If the folder or one of the keys is missing.
    """
    folder = model_folder(model)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    try:
        return ModelIdentity(str(config["id"]), str(config["version"]), bool(config["demonstration"]))
    except KeyError as error:
        raise ModelError(f"{folder / 'config.json'} does not say its {error.args[0]}") from None
