"""Files of published models, by hub id or folder."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import _CACHED_NO_EXIST, hf_hub_download, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from transformers.utils import logging as transformers_logging

from litegpt.errors import ModelError
from litegpt.identity import json_object
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
    with _hub(name):
        # Asks once and without delay; a download asks a network that is down again and again.
        snapshot_download(name, allow_patterns=[])
        for file in choices:
            if try_to_load_from_cache(name, file) is _CACHED_NO_EXIST:
                continue
            try:
                return Path(hf_hub_download(name, file))
            except LocalEntryNotFoundError:
                raise
            except EntryNotFoundError:
                continue
    return None


def published_json(name: str, file: str) -> dict[str, Any] | None:
    """One of a model's JSON files, if it has it.

    Raises:
        ModelError: As ``published_file``, and if it is no JSON.
    """
    path = published_file(name, [file])
    return None if path is None else json_object(path)


def published_folder(name: str) -> Path:
    """A whole model from the hub, as a folder here.

    Raises:
        ModelError: If the hub cannot be reached and holds no copy here, or knows no such model.
    """
    with _hub(name):
        return Path(snapshot_download(name))


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """transformers tells of every tensor that it had no use for; what matters is checked and raised here.

    Its progress bars stay where a person sees them.
    """
    level, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    if not sys.stderr.isatty():
        transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]


@contextmanager
def _hub(name: str) -> Iterator[None]:
    """Turns whatever the hub's client raises into one error."""
    try:
        yield
    except LocalEntryNotFoundError:
        raise ModelError(
            f"{name} is no folder here, no copy of it is kept here, and the hub cannot be reached"
        ) from None
    except Exception as error:  # noqa: BLE001 - errors of its HTTP library, which has changed, come through
        raise ModelError(f"{name} is no folder here and cannot be fetched: {one_line(error)}") from None
