"""The form of a backup: one tar file that any program opens, the same of SQLite and of PostgreSQL.

    records/<table>.jsonl.gz   the rows, one a line, by column; time stamps in ISO 8601, UTC
    settings.json              the settings as the node saw them, passwords masked
    station.uid                the UID of the installation, where it has one
    files/<path>               the archive's files, where asked for
    index.jsonl.gz             every file that the records name: path, size, digest
    manifest.json              what there is, with its digests
    manifest.json.sha256       the manifest's own

The manifest comes last, so that a backup that ends early has none.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from service.errors import BackupDamaged
from service.settings import PREFIX, Settings
from service.webhooks import webhook

FORM_VERSION: Final = 1

RECORDS: Final = "records/"
FILES: Final = "files/"
SETTINGS: Final = "settings.json"
RULES: Final = "rules.json"
STATION_UID: Final = "station.uid"
INDEX: Final = "index.jsonl.gz"
MANIFEST: Final = "manifest.json"
MANIFEST_DIGEST: Final = "manifest.json.sha256"

ROWS_AT_ONCE: Final = 1000
MASK: Final = "***"
_SECRET_WORDS: Final = ("password", "passphrase", "secret", "token", "key")

OnProgress = Callable[[str, int, int], None]
"""Called with a step's name, how much of it is done, and how much there is."""


class Part(BaseModel):
    """One member of the tar file: its bytes, and the rows or lines in it where it has such."""

    model_config = ConfigDict(frozen=True)

    size_bytes: int
    sha256: str
    rows: int | None = None


class FileSums(BaseModel):
    """The files that the records name; those that were not there when the backup was made are missing."""

    model_config = ConfigDict(frozen=True)

    number: int
    size_bytes: int
    missing: int


class Manifest(BaseModel):
    """What a backup holds.

    Attributes:
        schema_revision: Of the database.
        with_files: Whether the archive's files are in it.
        parts: By name, all members but the files and the manifest itself.
    """

    model_config = ConfigDict(frozen=True)

    form: Literal["litegpt-node backup"] = "litegpt-node backup"
    form_version: int
    node_version: str
    schema_revision: str
    database: str
    made_at: datetime
    with_files: bool
    parts: dict[str, Part]
    files: FileSums

    @property
    def rows(self) -> dict[str, int]:
        """The number of rows of each table."""
        names = {name: part for name, part in self.parts.items() if name.startswith(RECORDS)}
        return {table_of(name): part.rows or 0 for name, part in names.items()}


class IndexedFile(BaseModel):
    """A file of the archive as the records know it.

    Attributes:
        path: Relative to the archive's root.
        size_bytes: Unknown of a result that is missing.
        sha256: Of the whole file, or of its dataset without the file meta information (PS3.10 7.1).
        digest_of: Which of the two.
        missing: Whether it was gone already when the backup was made.
    """

    model_config = ConfigDict(frozen=True)

    path: str
    size_bytes: int | None
    sha256: str
    digest_of: Literal["file", "dataset"]
    missing: bool = False


def member_of(table: str) -> str:
    """Where a table's rows are."""
    return f"{RECORDS}{table}.jsonl.gz"


def table_of(member: str) -> str:
    """Whose rows these are."""
    return member.removeprefix(RECORDS).removesuffix(".jsonl.gz")


def require_within(path: str) -> str:
    """The path, if it leads to a place under the archive's own folders.

    Raises:
        BackupDamaged: If it leads anywhere else.
    """
    parts = PurePosixPath(path).parts
    if not parts or parts[0] not in {"images", "results"} or ".." in parts or len(parts) < 2:
        raise BackupDamaged(f"it names a file outside the archive: {path!r}")
    return path


def as_line(row: Mapping[str, Any]) -> bytes:
    """A row as a line of JSON."""
    return _ENCODER.encode(row).encode("ascii") + b"\n"


_ENCODER: Final = json.JSONEncoder(separators=(",", ":"), default=datetime.isoformat)


def masked(settings: Settings) -> dict[str, str]:
    """The settings by name, without what nobody should read in a backup."""
    values = settings.as_environment()
    values[f"{PREFIX}WEBHOOKS"] = webhook.as_json(settings.webhooks, masked=True)
    return {name: _masked(name.lower(), value) for name, value in values.items()}


def _masked(name: str, value: str) -> str:
    if not value:
        return value
    if name.endswith("_url"):
        return _masked_url(value)
    return MASK if any(word in name for word in _SECRET_WORDS) else value


def _masked_url(text: str) -> str:
    """The URL with neither its password nor what its query says, which may be one, too."""
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        return MASK
    if url.query:
        url = url.set(query=dict.fromkeys(url.query, "masked"))
    return url.render_as_string(hide_password=True)
