"""Loading a backup into a node that is empty, on either database, and comparing its archive with the index.

The rows come in one transaction: a restore that breaks off leaves a node without rows, and can be run again.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import IO, Any, Final

from sqlalchemy import (
    Column,
    DateTime,
    MetaData,
    Table,
    func,
    insert,
    inspect,
    select,
    text,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from service.archive import Archive, file_digest
from service.backup.form import ROWS_AT_ONCE, STATION_UID, IndexedFile, OnProgress
from service.backup.reading import Backup
from service.errors import BackupDamaged, OutOfResources, SettingsError
from service.received import dataset_offset
from service.records.database import Records
from service.records.migrate import migrate
from service.records.schema import require_known
from service.records.tables import Base, Study, UTCDateTime

_NOT_ROWS: Final = "alembic_version"


@dataclass(frozen=True, slots=True)
class Trouble:
    """A file of the index that is not in the archive as it should be."""

    path: str
    what: str


def require_restorable(backup: Backup, records: Records) -> None:
    """Looks whether a backup, which has been verified, can go into these records.

    Raises:
        SettingsError: If a newer version of the node wrote it, or the node is not empty.
    """
    require_known(backup.manifest.schema_revision, "the backup")
    with records.reading() as session:
        _require_empty(session)


def restore(backup: Backup, records: Records, archive: Archive, on_progress: OnProgress) -> None:
    """Loads a verified backup into an empty node and brings it to the present schema.

    Raises:
        SettingsError: If the node is not empty, or a newer version of the node wrote the backup.
        BackupDamaged: If the rows do not fit the schema that they are said to have.
        OutOfResources: If the database or the disk would not take it.
    """
    require_restorable(backup, records)
    archive.prepare()
    _restore_files(backup, archive, on_progress)
    # An older backup is loaded into the tables that it was made of, and migrated with its rows.
    migrate(records.engine, backup.manifest.schema_revision)
    try:
        with records.writing() as session:
            _load(session, backup, on_progress)
    except DBAPIError as error:
        first_line = str(error.orig).strip().splitlines()[0]
        raise BackupDamaged(f"the database does not take its rows: {first_line}") from error
    migrate(records.engine)


def compare(backup: Backup, archive: Archive, on_progress: OnProgress) -> Iterator[Trouble]:
    """Reads every file that the backup's index names, and yields those that are missing or differ."""
    for number, one in enumerate(backup.index(), start=1):
        if trouble := _trouble(one, archive.absolute(one.path)):
            yield Trouble(one.path, trouble)
        on_progress("check of the archive", number, backup.manifest.files.number)


def _trouble(one: IndexedFile, path: Path) -> str:
    try:
        if one.size_bytes is not None and path.stat().st_size != one.size_bytes:
            return f"{path.stat().st_size} bytes instead of {one.size_bytes}"
        offset = dataset_offset(path) if one.digest_of == "dataset" else 0
        return "" if file_digest(path, offset) == one.sha256 else "other content"
    except FileNotFoundError:
        return "missing, as it was when the backup was made" if one.missing else "missing"
    except OSError as error:
        return error.strerror or "cannot be read"


def _restore_files(backup: Backup, archive: Archive, on_progress: OnProgress) -> None:
    try:
        station = backup.text(STATION_UID)
        if station is not None:
            _put(archive, STATION_UID, station.encode("ascii"))
        for number, (path, content) in enumerate(backup.files(), start=1):
            _put(archive, path, content)
            on_progress("files", number, backup.manifest.files.number)
    except OSError as error:
        raise OutOfResources(f"the archive {archive.root}: {error.strerror or error}") from error


def _put(archive: Archive, path: str, content: bytes | IO[bytes]) -> None:
    descriptor, name = tempfile.mkstemp(dir=archive.incoming)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if isinstance(content, bytes):
                file.write(content)
            else:
                shutil.copyfileobj(content, file)
        archive.put(Path(name), path)
    finally:
        Path(name).unlink(missing_ok=True)


def _require_empty(session: Session) -> None:
    present = set(inspect(session.connection()).get_table_names())
    for table in Base.metadata.sorted_tables:
        if table.name in present and session.execute(select(table.primary_key.columns[0]).limit(1)).first():
            raise SettingsError(f"the node is not empty: it has rows of {table.name}; nothing was restored")


def _load(session: Session, backup: Backup, on_progress: OnProgress) -> None:
    if session.get_bind().dialect.name == "postgresql":
        # A listener that runs already waits here with its first image until the rows are in.
        session.execute(text(f"LOCK TABLE {Study.__tablename__} IN EXCLUSIVE MODE"))
    _require_empty(session)
    tables = _tables(session)
    expected = backup.manifest.rows
    if set(expected) != {table.name for table in tables}:
        raise BackupDamaged(f"its tables are not those of schema {backup.manifest.schema_revision}")
    for table in tables:
        loaded = 0
        for rows in _batches(backup.rows(table.name)):
            session.execute(insert(table), [_values(row, table) for row in rows])
            loaded += len(rows)
            on_progress(table.name, loaded, expected[table.name])
        _require_count(session, table, expected[table.name])
    _reset_sequences(session, tables)


def _tables(session: Session) -> list[Table]:
    """The tables as they are in the database, parents first, with our own time stamps."""
    found = MetaData()
    found.reflect(session.connection())
    return [
        Table(
            table.name,
            MetaData(),
            *(
                Column(
                    column.name,
                    UTCDateTime() if isinstance(column.type, DateTime) else column.type,
                    primary_key=column.primary_key,
                )
                for column in table.columns
            ),
        )
        for table in found.sorted_tables
        if table.name != _NOT_ROWS
    ]


def _values(row: dict[str, Any], table: Table) -> dict[str, Any]:
    if set(row) != set(table.columns.keys()):
        raise BackupDamaged(f"a row of {table.name} has not the columns of its schema")
    times = [column.name for column in table.columns if isinstance(column.type, UTCDateTime)]
    return row | {name: datetime.fromisoformat(row[name]) for name in times if row[name] is not None}


def _batches(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    waiting = iter(rows)
    while batch := list(islice(waiting, ROWS_AT_ONCE)):
        yield batch


def _require_count(session: Session, table: Table, expected: int) -> None:
    found = session.scalar(select(func.count()).select_from(table))
    if found != expected:
        raise BackupDamaged(f"it has {found} rows of {table.name}, and its manifest says {expected}")


def _reset_sequences(session: Session, tables: Iterable[Table]) -> None:
    """The next row gets the number after the last one's; SQLite does that by itself."""
    if session.get_bind().dialect.name != "postgresql":
        return
    for table in tables:
        for column in table.primary_key.columns:
            sequence = session.scalar(select(func.pg_get_serial_sequence(table.name, column.name)))
            last = session.scalar(select(func.max(column)))
            if sequence is not None and last is not None:
                session.execute(select(func.setval(sequence, last)))
