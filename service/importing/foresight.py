"""What a Receiver would do with one file after another: the counts of a dry run are those of the real one."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from service.errors import CannotUnderstand, OutOfResources
from service.importing.copying import place_for_copy, write_copy
from service.importing.sources import File, Member, again
from service.received import ReceivedObject
from service.records.intake import Receiver
from service.records.versions import Intake, Kept, Version

_TABLE: Final = """
CREATE TABLE foreseen (
    sop_instance_uid TEXT, study_instance_uid TEXT, digest TEXT, state TEXT, eligible INTEGER,
    path BLOB, position INTEGER
);
CREATE INDEX of_uid ON foreseen (sop_instance_uid);
"""


class Foresight:
    """Remembers what it has foreseen in a temporary SQLite file: 300 bytes of disk an image, and no memory.

    Where one of them comes again with other bytes, the earlier is read again to compare the pixels.
    """

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._seen = sqlite3.connect("", isolation_level=None)  # a file of its own, gone when it is closed
        self._seen.executescript(_TABLE)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._seen.close()

    @property
    def folder(self) -> Path:
        """Where copies lie meanwhile."""
        return Path(tempfile.gettempdir())

    def known(self, sop_instance_uid: str) -> set[str]:
        """The digests of what is recorded under a UID, or would be."""
        rows = self._seen.execute(
            "SELECT digest FROM foreseen WHERE sop_instance_uid = ?", (sop_instance_uid,)
        )
        return self._receiver.known(sop_instance_uid) | {digest for (digest,) in rows}

    def keep(self, received: ReceivedObject, found: File | Member) -> Kept:
        """What the Receiver would say, were all before this one kept.

        Raises:
            OutOfResources: If the records are away, or the temporary folder is full.
        """
        if received.digest in self.known(received.sop_instance_uid):
            return Kept(Intake.DUPLICATE)
        with self._versions(received) as foreseen:
            kept = self._receiver.foresee(received, foreseen)
        if kept.intake is not Intake.DUPLICATE:
            self._remember(received, kept, found)
        return kept

    def _remember(self, received: ReceivedObject, kept: Kept, found: File | Member) -> None:
        version = Version.of(received, kept)
        path, position = found.place
        row = (
            received.sop_instance_uid,
            received.study_instance_uid,
            version.digest,
            version.state,
            version.eligible,
            os.fsencode(path),
            position,
        )
        try:
            self._seen.execute("INSERT INTO foreseen VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        except sqlite3.OperationalError as error:
            raise OutOfResources(f"{self.folder}: {error}") from error

    @contextmanager
    def _versions(self, received: ReceivedObject) -> Iterator[list[Version]]:
        """What is foreseen under its UID in its study, with a copy of the first, to compare pixels with."""
        rows = self._seen.execute(
            "SELECT digest, state, eligible, path, position FROM foreseen"
            " WHERE sop_instance_uid = ? AND study_instance_uid = ? ORDER BY rowid",
            (received.sop_instance_uid, received.study_instance_uid),
        ).fetchall()
        if not rows:
            yield []
            return
        with place_for_copy(self.folder) as copy:
            path, position = Path(os.fsdecode(rows[0][3])), rows[0][4]
            try:
                with again(path, position) as first:
                    write_copy(first.chunks(), copy)
            except CannotUnderstand:  # it is gone meanwhile: as where a recorded file is not there any more
                copy.unlink()
            yield [Version(digest, copy, state, bool(eligible)) for digest, state, eligible, _, _ in rows]
