"""SHA-256 of a model folder's files, kept in its ``config.json`` and verified before anything is loaded."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from litegpt.errors import ModelError
from litegpt.identity import config_values

KEY: Final = "checksums"


def checksums(folder: Path, files: Iterable[Path]) -> dict[str, str]:
    """SHA-256 by path relative to the folder, in the order of the paths."""
    return {file.relative_to(folder).as_posix(): _sha256(file) for file in sorted(files)}


def verify_checksums(folder: Path) -> bool:
    """Compares the files with what ``config.json`` says of them.

    Returns:
        Whether it says anything of them: a folder without checksums is let through.

    Raises:
        ModelError: Naming the files that are missing or not what was saved.
    """
    said = config_values(folder).get(KEY)
    if said is None:
        return False
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
    return True


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
