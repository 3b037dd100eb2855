"""Making a backup while the node runs: the rows of one moment, then an index of the files that they name.

A file of the archive never changes once a row names it, so that only the rows need one moment. Memory does
not grow with their number: each table goes through an unnamed temporary file beside the backup.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import logging
import os
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any, Final

from sqlalchemy import Table, func, select
from sqlalchemy.orm import Session

from service.archive import Archive, sync
from service.backup.form import (
    FILES,
    FORM_VERSION,
    INDEX,
    MANIFEST,
    MANIFEST_DIGEST,
    ROWS_AT_ONCE,
    RULES,
    SETTINGS,
    STATION_UID,
    FileSums,
    IndexedFile,
    Manifest,
    OnProgress,
    Part,
    as_line,
    masked,
    member_of,
)
from service.errors import OutOfResources, SettingsError
from service.records.database import Records, utc_now
from service.records.schema import pending, revision_of
from service.records.tables import Base, Instance, Result
from service.rules.rulebook import written_rules
from service.settings import Settings

log = logging.getLogger(__name__)

FILES_STEP: Final = "files"


def write_backup(
    settings: Settings, records: Records, target: Path, *, with_files: bool, on_progress: OnProgress
) -> Manifest:
    """Writes a backup, whole or not at all: it has its name only once it is complete and on disk.

    Raises:
        SettingsError: If there is something of that name, or the database is not at the present schema.
        OutOfResources: If the records are away, or the disk would not take it.
    """
    if target.exists():
        raise SettingsError(f"{target} is there already")
    if pending(records.engine):
        raise SettingsError("the schema is not the present one: run `litegpt-node migrate`")
    try:
        with _named_when_whole(target) as file, ExitStack() as spools:
            writer = _Writer(settings, target.parent, spools, on_progress)
            return writer.write(records, file, with_files=with_files)
    except OSError as error:
        raise OutOfResources(f"the backup {target}: {error.strerror or error}") from error


@contextmanager
def _named_when_whole(target: Path) -> Iterator[IO[bytes]]:
    """A file beside the target that becomes it at the end of the block, or goes."""
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        # No one else's to read: it holds what hospitals keep to themselves.
        with open(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:  # noqa: PTH123
            yield file
        sync(part)
        part.rename(target)
        sync(target.parent)
    finally:
        part.unlink(missing_ok=True)


@dataclass(slots=True)
class _Spool:
    """Lines of JSON, compressed, in an unnamed file."""

    file: IO[bytes]
    rows: int = 0


@dataclass(slots=True)
class _Writer:
    """Writes one backup."""

    settings: Settings
    folder: Path
    spools: ExitStack
    on_progress: OnProgress
    made_at: datetime = field(default_factory=utc_now)
    parts: dict[str, Part] = field(default_factory=dict)

    def write(self, records: Records, file: IO[bytes], *, with_files: bool) -> Manifest:
        with records.snapshot() as session:
            revision = revision_of(session.connection()) or ""
            rows = {table.name: self._dump(session, table) for table in Base.metadata.sorted_tables}
        with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for name, spool in rows.items():
                self._add_spool(tar, member_of(name), spool)
            self._add_text(tar, SETTINGS, json.dumps(masked(self.settings), indent=2) + "\n")
            self._add_text(tar, RULES, json.dumps(_rules(self.settings), indent=2, default=str) + "\n")
            station = self.settings.data_dir / STATION_UID
            if station.is_file():
                self._add_text(tar, STATION_UID, station.read_text(encoding="ascii"))
            files = self._add_files(tar, rows, with_files)
            manifest = Manifest(
                form_version=FORM_VERSION,
                node_version=version("litegpt-node"),
                schema_revision=revision,
                database=records.engine.dialect.name,
                made_at=self.made_at,
                with_files=with_files,
                parts=self.parts,
                files=files,
            )
            digest = self._add_text(tar, MANIFEST, manifest.model_dump_json(indent=2) + "\n")
            self._add_text(tar, MANIFEST_DIGEST, f"{digest}  {MANIFEST}\n")
        return manifest

    def _dump(self, session: Session, table: Table) -> _Spool:
        spool = self._spool()
        total = session.scalar(select(func.count()).select_from(table)) or 0
        in_order = select(table).order_by(*table.primary_key)
        with (
            session.execute(in_order, execution_options={"yield_per": ROWS_AT_ONCE}) as rows,
            _lines(spool) as lines,
        ):
            names = table.columns.keys()
            for page in rows.partitions():
                for row in page:
                    lines.write(as_line(dict(zip(names, row, strict=True))))
                spool.rows += len(page)
                self.on_progress(table.name, spool.rows, total)
        return spool

    def _spool(self) -> _Spool:
        return _Spool(self.spools.enter_context(tempfile.TemporaryFile(dir=self.folder)))

    def _add_files(self, tar: tarfile.TarFile, rows: dict[str, _Spool], with_files: bool) -> FileSums:
        """Adds the files that the rows name, where they are asked for, and the index of them."""
        archive, index = Archive(self.settings.data_dir), self._spool()
        named = rows[Instance.__tablename__].rows + rows[Result.__tablename__].rows
        sums = FileSums(number=0, size_bytes=0, missing=0)
        with _lines(index) as lines:
            for one in _named_files(rows, archive):
                if with_files and not one.missing:
                    one = self._add_file(tar, one, archive)
                lines.write(as_line(one.model_dump()))
                index.rows += 1
                sums = FileSums(
                    number=index.rows,
                    size_bytes=sums.size_bytes + (one.size_bytes or 0),
                    missing=sums.missing + one.missing,
                )
                self.on_progress(FILES_STEP, index.rows, named)
        self._add_spool(tar, INDEX, index)
        return sums

    def _add_file(self, tar: tarfile.TarFile, one: IndexedFile, archive: Archive) -> IndexedFile:
        """Adds one file of the archive; what is known of it then is the digest of all its bytes."""
        try:
            file = archive.absolute(one.path).open("rb")
        except FileNotFoundError:
            return one.model_copy(update={"missing": True})
        with file:
            size = os.fstat(file.fileno()).st_size
            digest = self._add(tar, FILES + one.path, file, size)
        return one.model_copy(update={"size_bytes": size, "sha256": digest, "digest_of": "file"})

    def _add_spool(self, tar: tarfile.TarFile, name: str, spool: _Spool) -> None:
        size = spool.file.seek(0, io.SEEK_END)
        spool.file.seek(0)
        digest = self._add(tar, name, spool.file, size)
        self.parts[name] = Part(size_bytes=size, sha256=digest, rows=spool.rows)

    def _add_text(self, tar: tarfile.TarFile, name: str, text: str) -> str:
        content = text.encode()
        digest = self._add(tar, name, io.BytesIO(content), len(content))
        self.parts[name] = Part(size_bytes=len(content), sha256=digest)
        return digest

    def _add(self, tar: tarfile.TarFile, name: str, file: IO[bytes], size: int) -> str:
        member = tarfile.TarInfo(name)
        member.size, member.mode, member.mtime = size, 0o600, int(self.made_at.timestamp())
        digesting: Any = _Digesting(file)
        tar.addfile(member, digesting)
        tar.members.clear()  # type: ignore[attr-defined]  # it would keep all of them
        return str(digesting.sha256.hexdigest())


class _Digesting:
    """A file whose bytes are digested as they are read."""

    def __init__(self, file: IO[bytes]) -> None:
        self.sha256 = hashlib.sha256()
        self._file = file

    def read(self, size: int) -> bytes:
        chunk = self._file.read(size)
        self.sha256.update(chunk)
        return chunk


def _rules(settings: Settings) -> dict[str, Any]:
    """The rules, where their file can be read: a wrong one must not keep anybody from a backup."""
    try:
        return written_rules(settings)
    except SettingsError as error:
        log.warning("the backup is without the rules: %s", error)
        return {}


@contextmanager
def _lines(spool: _Spool) -> Iterator[gzip.GzipFile]:
    with gzip.GzipFile(filename="", fileobj=spool.file, mode="wb", compresslevel=6, mtime=0) as lines:
        yield lines


def _named_files(rows: dict[str, _Spool], archive: Archive) -> Iterator[IndexedFile]:
    """Every file that an instance or a result names, as the rows that were just written know it; purged ones
    are not missed."""
    for row in _kept(rows[Instance.__tablename__]):
        missing = not archive.absolute(row["path"]).is_file()
        yield IndexedFile(
            path=row["path"],
            size_bytes=row["size_bytes"],
            sha256=row["digest"],
            digest_of="dataset",
            missing=missing,
        )
    for row in _kept(rows[Result.__tablename__]):
        path = archive.absolute(row["path"])
        missing = not path.is_file()
        yield IndexedFile(
            path=row["path"],
            size_bytes=None if missing else path.stat().st_size,
            sha256=row["digest"],
            digest_of="file",
            missing=missing,
        )


def _kept(spool: _Spool) -> Iterator[dict[str, Any]]:
    return (row for row in _read_again(spool) if row["purged_at"] is None)


def _read_again(spool: _Spool) -> Iterator[dict[str, Any]]:
    spool.file.seek(0)
    with gzip.GzipFile(fileobj=spool.file, mode="rb") as lines:
        for line in lines:
            yield json.loads(line)
