"""Takes what was found the way the listener takes what arrives: through the Receiver, and as safely.

An original is only read. Its copy is written under ``incoming/`` of the archive, from where taking it is a
rename. What the records know already is recognised by its digest before a byte is copied.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import IO, Final

from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.uid import MediaStorageDirectoryStorage

from litegpt.attributes import MALFORMED
from service.errors import CannotUnderstand, NeverAgain, OutOfResources
from service.importing.sources import (
    HEAD_BYTES,
    ZIP_ERRORS,
    File,
    Found,
    Member,
    Unreadable,
    is_dicom,
    is_nested_zip,
)
from service.received import ReceivedObject, examine
from service.records.intake import CONFLICTING, CORRECTED, Intake, Receiver

log = logging.getLogger(__name__)

MAXIMUM_MEMBER_BYTES: Final = 2 << 30
MAXIMUM_INFLATION: Final = 200
"""A zip file may not become more than this many times its size (and may always become 256 MiB)."""
_INFLATION_ALLOWED: Final = 256 << 20
_CHUNK_BYTES: Final = 1 << 20


class Outcome(StrEnum):
    """What became of a file."""

    TAKEN = "taken"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    UNREADABLE = "unreadable"
    INDEX = "index"
    NOT_DICOM = "not DICOM"


@dataclass(frozen=True, slots=True)
class Imported:
    """One file and its outcome; the reason is why it is unreadable, or why it is not to be analysed."""

    name: str
    outcome: Outcome
    reason: str = ""
    size_bytes: int = 0


@dataclass(slots=True)
class Importer:
    """Takes found files one by one.

    Attributes:
        dry_run: Whether to say what would be taken, and to write nothing into the node.
    """

    receiver: Receiver
    minimum_free_bytes: int
    dry_run: bool = False
    _inflated: dict[str, int] = field(default_factory=dict)

    def take(self, found: Found) -> Imported:
        """Makes one file safe; when this returns it is archived and recorded.

        Raises:
            OutOfResources: If archive or records would not take it just now.
        """
        if isinstance(found, Unreadable):
            return Imported(found.name, Outcome.UNREADABLE, found.reason)
        try:
            return self._take_file(found) if isinstance(found, File) else self._take_member(found)
        except NeverAgain as error:
            return Imported(found.name, Outcome.UNREADABLE, str(error))
        except OSError as error:
            return Imported(found.name, Outcome.UNREADABLE, error.strerror or str(error))
        except OutOfResources:
            raise
        except Exception as error:  # one strange file among thousands: it is listed, the import goes on
            log.exception("unexpected fault over a file")
            return Imported(found.name, Outcome.UNREADABLE, f"unexpected fault: {type(error).__name__}")

    def _take_file(self, found: File) -> Imported:
        if not found.path.is_file():
            reason = "a link to nothing" if found.path.is_symlink() else ""
            return Imported(found.name, Outcome.UNREADABLE if reason else Outcome.NOT_DICOM, reason)
        with found.path.open("rb") as file:
            if not is_dicom(file.read(HEAD_BYTES)):
                return Imported(found.name, Outcome.NOT_DICOM)
            received = examine_image(found.path)
            if received is None:
                return Imported(found.name, Outcome.INDEX, "a DICOMDIR")
            if self.receiver.knows(received):
                return Imported(found.name, Outcome.DUPLICATE)
            if self.dry_run:
                return self._would_take(found.name, received)
            file.seek(0)
            with self._incoming() as copy:
                self._copy(b"", file, copy, MAXIMUM_MEMBER_BYTES * 8)
                return self._take_copy(found.name, copy, received)

    def _take_member(self, found: Member) -> Imported:
        try:
            with found.open() as file:
                head = file.read(HEAD_BYTES)
                if is_nested_zip(head):
                    raise CannotUnderstand("a zip file within a zip file is not looked into")
                if not is_dicom(head):
                    return Imported(found.name, Outcome.NOT_DICOM)
                with self._incoming() as copy:
                    self._inflate(found, head, file, copy)
                    return self._take_inflated(found.name, copy)
        except (OutOfResources, NeverAgain):
            raise
        except ZIP_ERRORS as error:
            raise CannotUnderstand(f"damaged in its zip file: {error}") from error

    def _take_inflated(self, name: str, copy: Path) -> Imported:
        received = examine_image(copy)
        if received is None:
            return Imported(name, Outcome.INDEX, "a DICOMDIR")
        if self.receiver.knows(received):
            return Imported(name, Outcome.DUPLICATE)
        if self.dry_run:
            return self._would_take(name, received)
        return self._take_copy(name, copy, received)

    def _take_copy(self, name: str, copy: Path, received: ReceivedObject) -> Imported:
        intake = self.receiver.take(copy, sop_instance_uid=received.sop_instance_uid)
        if intake is Intake.DUPLICATE:
            return Imported(name, Outcome.DUPLICATE)
        if intake is Intake.CONFLICT:
            return Imported(name, Outcome.CONFLICT, CONFLICTING)
        reason = self.receiver.reason_against(received)
        if intake is Intake.CORRECTED_HEADER:
            reason = CORRECTED
        return Imported(name, Outcome.TAKEN, reason, received.size_bytes)

    def _would_take(self, name: str, received: ReceivedObject) -> Imported:
        return Imported(name, Outcome.TAKEN, self.receiver.reason_against(received), received.size_bytes)

    def _inflate(self, found: Member, head: bytes, file: IO[bytes], copy: Path) -> None:
        of_archive = str(found.archive.filename)
        so_far = self._inflated.get(of_archive, 0)
        allowed = _INFLATION_ALLOWED + MAXIMUM_INFLATION * found.archive_bytes - so_far
        written = self._copy(head, file, copy, min(MAXIMUM_MEMBER_BYTES, allowed))
        self._inflated = {of_archive: so_far + written}

    @contextmanager
    def _incoming(self) -> Iterator[Path]:
        archive = self.receiver.archive
        if not self.dry_run and archive.free_bytes() < self.minimum_free_bytes:
            raise OutOfResources(f"the disk of {archive.root} is nearly full (minimum_free_bytes)")
        try:
            folder = None if self.dry_run else archive.incoming
            with tempfile.NamedTemporaryFile(dir=folder, suffix=".dcm", delete=False) as file:
                copy = Path(file.name)
        except OSError as error:
            raise OutOfResources(f"the archive: {error.strerror}") from error
        try:
            yield copy
        finally:
            copy.unlink(missing_ok=True)  # not there any more once it has been taken

    def _copy(self, head: bytes, source: IO[bytes], copy: Path, limit: int) -> int:
        """Reading may fail for the file's sake, writing only for the archive's."""
        written, chunk = 0, head or source.read(_CHUNK_BYTES)
        with copy.open("wb", buffering=0) as target:
            while chunk:
                written += len(chunk)
                if written > limit:
                    raise CannotUnderstand("inflates to more than an image can be")
                _write(target, chunk)
                chunk = source.read(_CHUNK_BYTES)
        return written


def examine_image(path: Path) -> ReceivedObject | None:
    """What a Part 10 file is; nothing for a DICOMDIR, which holds no image.

    Raises:
        CannotUnderstand: If it is damaged, or lacks what identifies it.
    """
    with suppress(*MALFORMED, InvalidDicomError):  # of which `examine` says what is wrong
        if read_file_meta_info(path).get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
            return None
    return examine(path)


def _write(target: IO[bytes], chunk: bytes) -> None:
    try:
        view = memoryview(chunk)
        while view:
            view = view[target.write(view) :]
    except OSError as error:
        raise OutOfResources(f"the archive: {error.strerror}") from error
