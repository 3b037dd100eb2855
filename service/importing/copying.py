"""A copy under ``incoming/`` (or, of a dry run, in the temporary folder), digested as it is written.

So each file is read once, and what is archived is what was digested and examined, whatever becomes of the
original meanwhile.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from service.errors import OutOfResources


@contextmanager
def place_for_copy(folder: Path) -> Iterator[Path]:
    """A new empty file, removed afterwards where nobody has moved it away.

    Raises:
        OutOfResources: If it cannot be made.
    """
    try:
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".dcm", delete=False) as file:
            copy = Path(file.name)
    except OSError as error:
        raise OutOfResources(f"{folder}: {error.strerror}") from error
    try:
        yield copy
    finally:
        copy.unlink(missing_ok=True)


def write_copy(chunks: Iterable[bytes], copy: Path, dataset_offset: int = 0) -> str:
    """Writes the chunks, which say themselves when they cannot be read; the dataset's digest is returned.

    Raises:
        OutOfResources: If the disk would not take them.
    """
    try:
        with copy.open("wb", buffering=0) as target:
            return dataset_digest(_written(chunks, target), dataset_offset)
    except OSError as error:
        raise OutOfResources(f"{copy.parent}: {error.strerror}") from error


def dataset_digest(chunks: Iterable[bytes], dataset_offset: int) -> str:
    """SHA-256 of what comes after the first ``dataset_offset`` bytes, as hexadecimal text."""
    digest, skip = hashlib.sha256(), dataset_offset
    for chunk in chunks:
        digest.update(memoryview(chunk)[skip:])
        skip = max(0, skip - len(chunk))
    return digest.hexdigest()


def _written(chunks: Iterable[bytes], target: IO[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        rest = memoryview(chunk)
        while rest:
            rest = rest[target.write(rest) :]
        yield chunk
