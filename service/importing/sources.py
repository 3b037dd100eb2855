"""The files under some paths, one at a time and in order; those within zip files too.

Only the names of the folders on the way (or of one zip file) are held at a time. The name of a zip file's
member is said to people and never becomes a path.
"""

from __future__ import annotations

import lzma
import os
import stat
import zipfile
import zlib
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from service.errors import CannotUnderstand

_ZIP_MAGIC: Final = (b"PK\x03\x04", b"PK\x05\x06")
_PREAMBLE_BYTES: Final = 128
HEAD_BYTES: Final = _PREAMBLE_BYTES + 4
_CHUNK_BYTES: Final = 1 << 20

MAXIMUM_MEMBER_BYTES: Final = 2 << 30
MAXIMUM_INFLATION: Final = 200
INFLATION_ALLOWED: Final = 256 << 20
"""The members of a zip file may become this many bytes, and beyond them 200 times the zip file's size."""

CHANGED: Final = "it changed while it was read"

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
"""What zipfile raises over a damaged or exotic file."""


@dataclass(frozen=True, slots=True)
class File:
    """A file of its own."""

    path: Path

    @property
    def name(self) -> str:
        """What people call it."""
        return str(self.path)

    @property
    def place(self) -> tuple[Path, int | None]:
        """Where ``again`` finds it."""
        return self.path, None

    def chunks(self) -> Generator[bytes, None, None]:
        """Its content, the first ``HEAD_BYTES`` apart; nothing where it is a device or a pipe.

        Raises:
            CannotUnderstand: If it cannot be read, or changes meanwhile.
        """
        try:
            before = self.path.stat()
            if stat.S_ISREG(before.st_mode):
                yield from self._chunks(before)
        except FileNotFoundError:
            gone = "a link to nothing" if self.path.is_symlink() else "it is not there any more"
            raise CannotUnderstand(gone) from None
        except OSError as error:
            raise CannotUnderstand(error.strerror or "cannot be read") from error

    def _chunks(self, before: os.stat_result) -> Iterator[bytes]:
        with self.path.open("rb") as file:
            yield file.read(HEAD_BYTES)
            left = before.st_size - HEAD_BYTES
            while left > 0 and (chunk := file.read(min(_CHUNK_BYTES, left))):
                left -= len(chunk)
                yield chunk
            after = os.fstat(file.fileno())
        if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            raise CannotUnderstand(CHANGED)


@dataclass(slots=True)
class Allowance:
    """How many bytes the members of one zip file may still become."""

    left: int


@dataclass(frozen=True, slots=True)
class Member:
    """A file within a zip file, which is open as long as the walk stands here."""

    archive: zipfile.ZipFile
    position: int
    allowance: Allowance

    @property
    def name(self) -> str:
        """What people call it."""
        return f"{self.archive.filename}!{self._info.filename}"

    @property
    def place(self) -> tuple[Path, int | None]:
        """Where ``again`` finds it."""
        return Path(str(self.archive.filename)), self.position

    @property
    def _info(self) -> zipfile.ZipInfo:
        return self.archive.infolist()[self.position]

    def chunks(self) -> Generator[bytes, None, None]:
        """Its content, inflated as it is read, the first ``HEAD_BYTES`` apart.

        Raises:
            CannotUnderstand: If it is damaged, encrypted, a zip file again, or inflates to too much.
        """
        if self._info.flag_bits & 1:
            raise CannotUnderstand("encrypted")
        try:
            yield from self._chunks()
        except ZIP_ERRORS as error:
            raise CannotUnderstand(f"damaged in its zip file: {error}") from error

    def _chunks(self) -> Iterator[bytes]:
        with self.archive.open(self._info) as file:
            head = file.read(HEAD_BYTES)
            if head.startswith(_ZIP_MAGIC) and not is_dicom(head):
                raise CannotUnderstand("a zip file within a zip file is not looked into")
            yield head
            # zipfile inflates no more than the table of contents says.
            if self._info.file_size > min(MAXIMUM_MEMBER_BYTES, self.allowance.left):
                raise CannotUnderstand("it inflates to more than an image, or a zip file of images, can be")
            self.allowance.left -= self._info.file_size
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk


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
        for found in _walk(path, leave_out):
            if isinstance(found, File) and _is_zip(found.path):
                yield from _members(found.path)
            else:
                yield found


def count(paths: Sequence[Path], leave_out: Path) -> int:
    """How many ``find`` will come to, by names alone: a zip file counts by its table of contents."""
    total = 0
    for path in paths:
        for found in _walk(path, leave_out):
            is_zip = isinstance(found, File) and found.path.suffix.lower() == ".zip"
            total += sum(1 for _ in _members(Path(found.name))) if is_zip else 1
    return total


def is_dicom(head: bytes) -> bool:
    """Whether a file that begins so is a Part 10 file (PS3.10 7.1)."""
    return head[_PREAMBLE_BYTES:HEAD_BYTES] == b"DICM"


@contextmanager
def again(path: Path, position: int | None) -> Iterator[File | Member]:
    """What was found once: a file, or the member of a zip file at a position of its table of contents.

    Raises:
        CannotUnderstand: If the zip file can no longer be opened.
    """
    if position is None:
        yield File(path)
        return
    try:
        archive = zipfile.ZipFile(path)
    except ZIP_ERRORS as error:
        raise CannotUnderstand(f"the zip file is damaged: {error}") from error
    with archive:
        yield Member(archive, position, Allowance(MAXIMUM_MEMBER_BYTES))


def _walk(top: Path, leave_out: Path) -> Iterator[File | Unreadable]:
    """By a stack of folders: a tree may be deeper than Python calls can be."""
    try:
        own = leave_out.stat()
    except OSError:
        own = None  # a folder that is not there is nowhere within
    stack: list[Iterator[Path]] = [iter([top])]
    while stack:
        path = next(stack[-1], None)
        if path is None:
            stack.pop()
            continue
        try:
            if not path.is_dir():
                yield File(path)
            elif len(stack) > 1 and path.is_symlink():
                yield Unreadable(str(path), "a link to a folder: name it to take what is in it")
            elif own is None or not os.path.samestat(path.stat(), own):
                with os.scandir(path) as entries:
                    names = sorted(entry.name for entry in entries)
                stack.append(map(path.joinpath, names))
        except OSError as error:
            yield Unreadable(str(path), error.strerror or "cannot be read")


def _is_zip(path: Path) -> bool:
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError:
        return False  # whoever reads it next says why
    named_so = path.suffix.lower() == ".zip" and head != b""
    return not is_dicom(head) and (head.startswith(_ZIP_MAGIC) or named_so)


def _members(path: Path) -> Iterator[Member | Unreadable]:
    try:
        allowance = Allowance(INFLATION_ALLOWED + MAXIMUM_INFLATION * path.stat().st_size)
        archive = zipfile.ZipFile(path)
    except ZIP_ERRORS as error:
        yield Unreadable(str(path), f"the zip file is damaged: {error}")
        return
    with archive:
        members = archive.infolist()
        for position in sorted(range(len(members)), key=lambda one: members[one].filename):
            if not members[position].is_dir():
                yield Member(archive, position, allowance)
