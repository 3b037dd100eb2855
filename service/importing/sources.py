"""The files under some paths, one at a time and in order; those within zip files too.

Only the names of one folder (or of one zip file) are held at a time. The name of a zip file's member is said
to people and never becomes a path.
"""

from __future__ import annotations

import lzma
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from service.errors import CannotUnderstand

_ZIP_MAGIC: Final = (b"PK\x03\x04", b"PK\x05\x06")
_PREAMBLE_BYTES: Final = 128
HEAD_BYTES: Final = _PREAMBLE_BYTES + 4

ZIP_ERRORS: Final = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    OSError,
)
"""What zipfile raises over a damaged, encrypted or exotic file."""


@dataclass(frozen=True, slots=True)
class File:
    """A file of its own."""

    name: str
    path: Path


@dataclass(frozen=True, slots=True)
class Member:
    """A file within a zip file, which is open as long as the walk stands here."""

    name: str
    archive: zipfile.ZipFile
    info: zipfile.ZipInfo
    archive_bytes: int

    def open(self) -> IO[bytes]:
        """Its content, inflated as it is read."""
        if self.info.flag_bits & 1:
            raise CannotUnderstand("encrypted")
        return self.archive.open(self.info)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Something that cannot be looked into, and why."""

    name: str
    reason: str


Found = File | Member | Unreadable


def find(paths: Sequence[Path], leave_out: Path) -> Iterator[Found]:
    """Everything under ``paths``, deep and sorted; links to folders are not followed, so that none can loop.

    Args:
        paths: Files and folders.
        leave_out: The node's own data folder, should it lie within one of them.
    """
    for path in paths:
        for found in _walk(path, leave_out.resolve()):
            if isinstance(found, File) and _is_zip(found.path):
                yield from _members(found.path)
            else:
                yield found


def count(paths: Sequence[Path], leave_out: Path) -> int:
    """How many ``find`` will come to, by names alone: a zip file counts by its table of contents."""
    total = 0
    for path in paths:
        for found in _walk(path, leave_out.resolve()):
            members = 1
            if isinstance(found, File) and found.path.suffix.lower() == ".zip":
                members = _member_count(found.path)
            total += members
    return total


def is_dicom(head: bytes) -> bool:
    """Whether a file that begins so is a Part 10 file (PS3.10 7.1)."""
    return head[_PREAMBLE_BYTES:HEAD_BYTES] == b"DICM"


def _walk(path: Path, leave_out: Path) -> Iterator[File | Unreadable]:
    if not path.is_dir():
        yield File(str(path), path)
        return
    if path.resolve() == leave_out:
        return
    try:
        children = sorted(path.iterdir())
    except OSError as error:
        yield Unreadable(str(path), error.strerror or "cannot be read")
        return
    for child in children:
        if child.is_symlink() and child.is_dir():
            yield Unreadable(str(child), "a link to a folder: name it to take what is in it")
        else:
            yield from _walk(child, leave_out)


def _is_zip(path: Path) -> bool:
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError:
        return False  # whoever reads it next says why
    return magic in _ZIP_MAGIC or (path.suffix.lower() == ".zip" and magic != b"")


def _members(path: Path) -> Iterator[Member | Unreadable]:
    try:
        archive = zipfile.ZipFile(path)
    except ZIP_ERRORS as error:
        yield Unreadable(str(path), f"the zip file is damaged: {error}")
        return
    with archive:
        for info in sorted(archive.infolist(), key=lambda one: one.filename):
            if not info.is_dir():
                yield Member(f"{path}!{info.filename}", archive, info, path.stat().st_size)


def _member_count(path: Path) -> int:
    try:
        with zipfile.ZipFile(path) as archive:
            return sum(not info.is_dir() for info in archive.infolist())
    except ZIP_ERRORS:
        return 1


def is_nested_zip(head: bytes) -> bool:
    """Whether a member that begins so is a zip file again."""
    return head[:4] in _ZIP_MAGIC
