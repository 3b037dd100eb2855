"""Takes what was found the way the listener takes what arrives: through the Receiver, and as safely.

An original is only read, and only once: its copy is digested as it is written, and the copy is what is
examined and archived. Where its UID is recorded already, it is digested first, and copied only if it is new.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain
from pathlib import Path

from pydicom.uid import MediaStorageDirectoryStorage

from service.errors import CannotUnderstand, NeverAgain, NodeError, OutOfResources
from service.importing.copying import dataset_digest, place_for_copy, write_copy
from service.importing.foresight import Foresight
from service.importing.sources import CHANGED, File, Found, Member, Unreadable, is_dicom
from service.received import Digest, FileMeta, ReceivedObject, examine
from service.records.intake import Receiver
from service.records.states import Priority
from service.records.versions import Intake, Kept

log = logging.getLogger(__name__)


class Outcome(StrEnum):
    """What became of a file."""

    TAKEN = "taken"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    UNREADABLE = "unreadable"
    DICOMDIR = "DICOMDIR"
    NOT_DICOM = "not DICOM"


_OUTCOMES = {Intake.DUPLICATE: Outcome.DUPLICATE, Intake.CONFLICT: Outcome.CONFLICT}


@dataclass(frozen=True, slots=True)
class Imported:
    """One file and its outcome; the reason is why it is unreadable, or why it is not to be analysed."""

    name: str
    outcome: Outcome
    reason: str = ""
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Importer:
    """Takes found files one by one.

    Attributes:
        foresight: Of a dry run: says what would be taken, and nothing is written into the node.
    """

    receiver: Receiver
    minimum_free_bytes: int
    foresight: Foresight | None = None

    def take(self, found: Found) -> Imported:
        """Makes one file safe; when this returns it is archived and recorded.

        Raises:
            OutOfResources: If archive or records would not take it just now.
        """
        if isinstance(found, Unreadable):
            return Imported(found.name, Outcome.UNREADABLE, found.reason)
        try:
            return self._take(found)
        except NeverAgain as error:
            return Imported(found.name, Outcome.UNREADABLE, str(error))
        except OSError as error:  # of the archive: those of the original have become CannotUnderstand
            raise OutOfResources(f"the archive: {error.strerror or error}") from error
        except NodeError:
            raise
        except Exception as error:
            # pydicom and its decoders name no family of errors for what strangers wrote, and one file that
            # fails in a way nobody foresaw would end each later run, too, at the same place.
            log.exception("unexpected fault over a file")
            return Imported(found.name, Outcome.UNREADABLE, f"unexpected fault: {type(error).__name__}")

    def _take(self, found: File | Member) -> Imported:
        with closing(found.chunks()) as chunks:
            head = next(chunks, b"")
            if not is_dicom(head):
                return Imported(found.name, Outcome.NOT_DICOM)
            beginning = head + next(chunks, b"")
            meta = _file_meta(beginning)
            if meta.sop_class_uid == MediaStorageDirectoryStorage:
                return Imported(found.name, Outcome.DICOMDIR)
            whole = chain([beginning], chunks)
            known = (self.foresight or self.receiver).known(meta.sop_instance_uid)
            if not known:
                return self._copy(found, whole, meta)
            if dataset_digest(whole, meta.dataset_offset) in known:
                return Imported(found.name, Outcome.DUPLICATE)
        with closing(found.chunks()) as chunks:  # other bytes under a UID that is there: read once more
            if next(chunks, b"") + next(chunks, b"") != beginning:
                raise CannotUnderstand(CHANGED)
            return self._copy(found, chain([beginning], chunks), meta)

    def _copy(self, found: File | Member, chunks: Iterator[bytes], meta: FileMeta) -> Imported:
        folder = self.foresight.folder if self.foresight else self._incoming()
        with place_for_copy(folder) as copy:
            digest = write_copy(chunks, copy, meta.dataset_offset)
            size_bytes = copy.stat().st_size - meta.dataset_offset
            received = examine(copy, digest=lambda: Digest(digest, size_bytes))
            kept = self._keep(received, found)
        outcome = _OUTCOMES.get(kept.intake, Outcome.TAKEN)
        size_bytes = received.size_bytes if outcome is Outcome.TAKEN else 0
        return Imported(found.name, outcome, kept.reason, size_bytes)

    def _keep(self, received: ReceivedObject, found: File | Member) -> Kept:
        if self.foresight:
            return self.foresight.keep(received, found)
        # What lies in files is old: today's patients come before it.
        return self.receiver.keep(received, priority=Priority.BACKLOG)

    def _incoming(self) -> Path:
        archive = self.receiver.archive
        if archive.free_bytes() < self.minimum_free_bytes:
            raise OutOfResources(f"the disk of {archive.root} is nearly full (minimum_free_bytes)")
        return archive.incoming


def _file_meta(beginning: bytes) -> FileMeta:
    meta = FileMeta.read(io.BytesIO(beginning))
    if meta.dataset_offset >= len(beginning):
        raise CannotUnderstand("there is no dataset after the file meta information")
    return meta
