"""Files of published models, by hub id or folder."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download, snapshot_download
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

from litegpt.errors import ModelError
from litegpt.tensors import one_line


def is_hub_id(name: str) -> bool:
    """Whether a name has the form of a hub id, ``owner/model``."""
    return re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", name) is not None


def published_file(name: str, choices: Sequence[str]) -> Path | None:
    """The first of a model's files that exists; a folder is read without any network.

    Raises:
        ModelError: If the hub cannot be reached and holds no copy here, or knows no such model.
    """
    if Path(name).is_dir():
        return next((Path(name) / file for file in choices if (Path(name) / file).is_file()), None)
    if not is_hub_id(name):
        raise ModelError(f"{name} cannot be loaded: it is neither a folder nor a hub id")
    for file in choices:
        try:
            return Path(hf_hub_download(name, file))
        except LocalEntryNotFoundError:
            raise _unreachable(name) from None
        except EntryNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise ModelError(f"{name} is no folder here and cannot be fetched: {one_line(error)}") from None
    return None


def published_json(name: str, file: str) -> dict[str, Any] | None:
    """One of a model's JSON files, if it has it.

    Raises:
        ModelError: As ``published_file``, and if it is no JSON.
    """
    path = published_file(name, [file])
    if path is None:
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from None
    if not isinstance(values, dict):
        raise ModelError(f"{path} is no JSON object")
    return values


def published_folder(name: str) -> Path:
    """A whole model from the hub, as a folder here.

    Raises:
        ModelError: If the hub cannot be reached and holds no copy here, or knows no such model.
    """
    try:
        return Path(snapshot_download(name))
    except LocalEntryNotFoundError:
        raise _unreachable(name) from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{name} is no folder here and cannot be fetched: {one_line(error)}") from None


def _unreachable(name: str) -> ModelError:
    """The error for a hub id that is neither here nor can be had."""
    return ModelError(f"{name} is no folder here, no copy of it is kept here, and the hub cannot be reached")
