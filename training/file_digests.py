"""Which digest a file had when it was last read, so that files that did not change are not read again."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from training.shards import ShardError


@dataclass(frozen=True, slots=True)
class Stamp:
    """What of a file changes with its content, as far as the file system tells.

    Attributes:
        size: Bytes.
        mtime_ns: When it was last written.
    """

    size: int
    mtime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Self:
        """From what the file system says."""
        return cls(status.st_size, status.st_mtime_ns)


def read_digests(table: Path) -> dict[Path, tuple[Stamp, bytes]]:
    """SHA-256 and stamp by absolute path; nothing where there is no table.

    Raises:
        ShardError: If it is damaged.
    """
    if not table.exists():
        return {}
    try:
        with closing(sqlite3.connect(f"{table.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            rows = connection.execute("SELECT path, size, mtime_ns, digest FROM files").fetchall()
    except sqlite3.Error as error:
        raise ShardError(table, f"cannot be read ({error}); delete it") from None
    return {Path(os.fsdecode(path)): (Stamp(size, mtime), digest) for path, size, mtime, digest in rows}


def add_digests(table: Path, found: Iterable[tuple[Path, Stamp, bytes]]) -> None:
    """Adds files, or what has become of them, all or none.

    Raises:
        ShardError: If the table is damaged or the disk refuses.
    """
    rows = [(os.fsencode(path), stamp.size, stamp.mtime_ns, digest) for path, stamp, digest in found]
    try:
        with closing(sqlite3.connect(table)) as connection, connection:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS files"
                " (path BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER, digest BLOB) WITHOUT ROWID"
            )
            connection.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", rows)
    except sqlite3.Error as error:
        raise ShardError(table, f"cannot be written ({error}); if it is damaged, delete it") from None
