"""Model folders beside the shipped one: its files under another name."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from litegpt.identity import model_folder


def model_copy(folder: Path, version: str, /, **config: Any) -> Path:
    """The shipped model as another version; what it says is the same.

    Args:
        folder: Created.
        version: In ``config.json``, and of the operating point.
        **config: What else ``config.json`` says; ``None`` takes a key out.
    """
    shutil.copytree(model_folder("phantom"), folder, copy_function=os.symlink)
    values = json.loads((folder / "config.json").read_text())
    values["operating_point"]["version"] = values["version"] = version
    values |= config
    (folder / "config.json").unlink()
    kept = {key: value for key, value in values.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(kept))
    return folder
