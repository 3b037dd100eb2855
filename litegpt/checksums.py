"""SHA-256 of a model folder's files, kept in its ``config.json`` and verified before anything is loaded."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from litegpt.errors import ModelError

logger = logging.getLogger(__name__)

KEY: Final = "checksums"


def checksums(folder: Path, files: Iterable[Path]) -> dict[str, str]:
    """SHA-256 by path relative to the folder, in the order of the paths."""
    return {file.relative_to(folder).as_posix(): _sha256(file) for file in sorted(files)}


def verify_checksums(folder: Path) -> None:
    """Compares the files with what ``config.json`` says of them; a folder that says nothing is let through.

    Raises:
        ModelError: Naming the files that are missing or not what was saved.
    """
    try:
        said = json.loads((folder / "config.json").read_text(encoding="utf-8")).get(KEY)
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(f"{folder / 'config.json'} cannot be read: {error}") from None
    if said is None:
        logger.warning("%s has no checksums: its files are taken as they are", folder)
        return
    if not isinstance(said, dict):
        raise ModelError(f"{folder / 'config.json'}: {KEY} is no table of files")
    faults = []
    for name, digest in said.items():
        file = folder / name
        if not file.is_file():
            faults.append(f"{name} is missing")
        elif _sha256(file) != digest:
            faults.append(f"{name} is not the file that was saved (its SHA-256 differs)")
    if faults:
        raise ModelError(f"{folder}: {'; '.join(faults)}")


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
