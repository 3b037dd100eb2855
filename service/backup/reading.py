"""Reading a backup: its manifest first, then nothing that has not been checked against it.

A tar file lets a reader jump from member to member, so that only what is asked for is read.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from pydantic import ValidationError

from service.backup.form import (
    FILES,
    FORM_VERSION,
    INDEX,
    MANIFEST,
    MANIFEST_DIGEST,
    IndexedFile,
    Manifest,
    OnProgress,
    member_of,
    require_within,
)
from service.errors import BackupDamaged, SettingsError

_CHUNK_BYTES: Final = 1 << 20
_UNREADABLE: Final = (tarfile.TarError, zlib.error, EOFError, ValueError, OSError)
"""What tarfile, gzip and json raise over damaged bytes; gzip's own is an OSError."""


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup whose manifest has been read; ``verify`` says whether the rest is what the manifest says."""

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: Path) -> Backup:
        """Reads what a backup says of itself.

        Raises:
            SettingsError: If there is no such file, or a later version of the node wrote it.
            BackupDamaged: If it is no backup, or ends early.
        """
        if not path.is_file():
            raise SettingsError(f"there is no file {path}")
        with _reading(path):
            texts = {name: _content(path, name) for name in (MANIFEST, MANIFEST_DIGEST)}
        if None in texts.values():
            raise BackupDamaged(f"{path} is no backup of a node, or ends early: it has no manifest")
        content = texts[MANIFEST] or b""
        if (texts[MANIFEST_DIGEST] or b"").split()[:1] != [hashlib.sha256(content).hexdigest().encode()]:
            raise BackupDamaged(f"{path} is damaged: its manifest has another digest")
        form = json.loads(content).get("form_version")
        if form != FORM_VERSION:
            raise SettingsError(f"{path} has form {form}, and this version of the node reads {FORM_VERSION}")
        try:
            return cls(path, Manifest.model_validate_json(content))
        except ValidationError as error:
            where = error.errors(include_url=False)[0]
            raise BackupDamaged(f"{path}: its manifest is not understood: {where['loc']}") from None

    def verify(self, on_progress: OnProgress) -> None:
        """Reads all of it and compares every digest.

        Raises:
            BackupDamaged: If anything is missing, is there too much, or is not what was written.
        """
        with _reading(self.path):
            self._verify(on_progress)

    def rows(self, table: str) -> Iterator[dict[str, Any]]:
        """A table's rows, as JSON has them.

        Raises:
            BackupDamaged: If they cannot be read.
        """
        return self._lines(member_of(table))

    def index(self) -> Iterator[IndexedFile]:
        """The files that the records name.

        Raises:
            BackupDamaged: If they cannot be read.
        """
        for line in self._lines(INDEX):
            try:
                one = IndexedFile.model_validate(line)
            except ValidationError:
                raise self._damaged(f"{INDEX} is not understood") from None
            require_within(one.path)
            yield one

    def text(self, name: str) -> str | None:
        """A small member's text, where the backup has it."""
        with _reading(self.path):
            content = _content(self.path, name) if name in self.manifest.parts else None
            return None if content is None else content.decode("utf-8")

    def files(self) -> Iterator[tuple[str, IO[bytes]]]:
        """The archive's files with their paths relative to its root, each to be read before the next."""
        for member, content in self._members():
            if member.name.startswith(FILES):
                yield require_within(member.name.removeprefix(FILES)), content

    def _verify(self, on_progress: OnProgress) -> None:
        seen: set[str] = set()
        files = self.index()
        checked = 0
        for member, content in self._members():
            if member.name.startswith(FILES):
                checked += 1
                expected = next((one for one in files if not one.missing), None)
                self._require_file(member, content, expected)
                on_progress("check of the backup's files", checked, self.manifest.files.number)
            elif member.name not in (MANIFEST, MANIFEST_DIGEST):
                seen.add(member.name)
                self._require_part(member, content)
                on_progress("check of the backup", len(seen), len(self.manifest.parts))
        if missing := set(self.manifest.parts) - seen:
            raise self._damaged(f"{min(missing)} is missing")
        if self.manifest.with_files and (left := next((one for one in files if not one.missing), None)):
            raise self._damaged(f"{FILES}{left.path} is missing")

    def _members(self) -> Iterator[tuple[tarfile.TarInfo, IO[bytes]]]:
        with _reading(self.path), tarfile.open(self.path, "r:") as tar:
            for member in _each(tar):
                content = tar.extractfile(member) if member.isreg() else None
                if content is None:
                    raise self._damaged(f"{member.name} is no file")
                with content:
                    yield member, content

    def _lines(self, name: str) -> Iterator[dict[str, Any]]:
        with _reading(self.path), tarfile.open(self.path, "r:") as tar:
            member = next((member for member in _each(tar) if member.name == name), None)
            content = tar.extractfile(member) if member is not None else None
            if content is None:
                raise self._damaged(f"{name} is missing")
            with content, gzip.GzipFile(fileobj=content, mode="rb") as lines:
                for line in lines:
                    yield json.loads(line)

    def _require_part(self, member: tarfile.TarInfo, content: IO[bytes]) -> None:
        expected = self.manifest.parts.get(member.name)
        if expected is None:
            raise self._damaged(f"{member.name} is not in its manifest")
        if (member.size, _sha256(content)) != (expected.size_bytes, expected.sha256):
            raise self._damaged(f"{member.name} is not what was written")

    def _require_file(
        self, member: tarfile.TarInfo, content: IO[bytes], expected: IndexedFile | None
    ) -> None:
        if expected is None or member.name != FILES + expected.path:
            raise self._damaged(f"{member.name} is not in its index at that place")
        if (member.size, _sha256(content)) != (expected.size_bytes, expected.sha256):
            raise self._damaged(f"{member.name} is not what was written")

    def _damaged(self, why: str) -> BackupDamaged:
        return BackupDamaged(f"{self.path} is damaged: {why}")


def _each(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    while (member := tar.next()) is not None:
        yield member
        tar.members.clear()  # type: ignore[attr-defined]  # it would keep all of them


def _content(path: Path, name: str) -> bytes | None:
    with tarfile.open(path, "r:") as tar:
        for member in _each(tar):
            if member.name == name and member.isreg():
                file = tar.extractfile(member)
                return None if file is None else file.read()
    return None


def _sha256(content: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while chunk := content.read(_CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except _UNREADABLE as error:
        raise BackupDamaged(f"{path} is no backup of a node, or damaged: {error}") from error
