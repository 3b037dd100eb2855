"""Writing down what arrived: the instance, its study, and what it means for them. One transaction.

DESIGN decision 2: the same object again changes nothing; the same UID with other bytes is archived beside the
first, as a corrected header where the pixels are the same, else as a conflict.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, cast

from sqlalchemy import CursorResult, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from service.archive import Archive
from service.eligibility import Eligibility
from service.errors import OutOfResources
from service.pixels import same_pixels
from service.received import ReceivedObject, examine
from service.records.database import Records, utc_now
from service.records.tables import Instance, InstanceState, Priority, Study, StudyState

log = logging.getLogger(__name__)


CONFLICTING: Final = "other pixels under a UID that is already stored"
CORRECTED: Final = "corrected header of an image that is already stored"
"""Why an object is not analysed that came under a UID that was there."""

SUCCEEDED: Final = "purged, and stored again with other bytes"
"""Why an object is not analysed any more: whether it was the same image cannot be told, so the new one is."""


class Intake(StrEnum):
    """What became of a received object."""

    STORED = "stored"
    DUPLICATE = "duplicate"
    STORED_AGAIN = "stored again after it was purged"
    CORRECTED_HEADER = "corrected header"
    CONFLICT = "conflict"


@dataclass(frozen=True, slots=True)
class Receiver:
    """Takes received files into the archive and the records."""

    records: Records
    archive: Archive
    eligibility: Eligibility

    def take(
        self,
        path: Path,
        *,
        sop_class_uid: str | None = None,
        sop_instance_uid: str | None = None,
        calling_ae_title: str = "",
        priority: Priority = Priority.ROUTINE,
    ) -> Intake:
        """Makes a received file safe: archived, synced and recorded when this returns.

        Args:
            path: A Part 10 file on the archive's file system; it is moved away unless it is a duplicate.
            sop_class_uid: The class that the C-STORE command named, if there was one.
            sop_instance_uid: The instance that it named.
            calling_ae_title: Who sent it.
            priority: Of the analysis that it asks for.

        Raises:
            CannotUnderstand: If the dataset cannot be read or identified.
            DatasetMismatch: If it is not what the command named.
            OutOfResources: If archive or records would not take it just now.
        """
        received = examine(path, sop_class_uid, sop_instance_uid)
        if self.knows(received):
            return Intake.DUPLICATE
        relative = self.archive.take_image(
            path, received.study_instance_uid, received.sop_instance_uid, received.digest
        )
        return self._record(received, relative, calling_ae_title, priority)

    def knows(self, received: ReceivedObject) -> bool:
        """Whether this very object is recorded, and its file still there and to stay."""
        with self.records.reading() as session:
            path = session.scalar(
                select(Instance.path).where(
                    Instance.sop_instance_uid == received.sop_instance_uid,
                    Instance.digest == received.digest,
                    Instance.purged_at.is_(None),
                )
            )
        return path is not None and self.archive.absolute(path).is_file()

    def _record(
        self, received: ReceivedObject, relative: str, calling_ae_title: str, priority: Priority
    ) -> Intake:
        now = utc_now()
        reason = self.reason_against(received)
        with self.records.writing() as session:
            study, is_new = _lock_study(session, received, now, priority)
            earlier = list(
                session.scalars(
                    select(Instance)
                    .where(
                        Instance.study_id == study.id,
                        Instance.sop_instance_uid == received.sop_instance_uid,
                    )
                    .order_by(Instance.id)
                )
            )
            for instance in earlier:
                if instance.digest == received.digest:
                    return self._store_again(instance, study, relative, now)
            intake = self._compare(relative, earlier)
            if intake is Intake.CONFLICT:
                reason = CONFLICTING
            else:
                if intake is Intake.STORED and not reason:
                    _succeed(earlier)
                if any(instance.eligible for instance in earlier):
                    reason = CORRECTED
            session.add(
                Instance(
                    study=study,
                    sop_instance_uid=received.sop_instance_uid,
                    sop_class_uid=received.sop_class_uid,
                    series_instance_uid=received.series_instance_uid,
                    transfer_syntax_uid=received.transfer_syntax_uid,
                    digest=received.digest,
                    path=relative,
                    size_bytes=received.size_bytes,
                    state=InstanceState.CONFLICT if intake is Intake.CONFLICT else InstanceState.STORED,
                    eligible=not reason,
                    reason=reason,
                    calling_ae_title=calling_ae_title,
                    received_at=now,
                )
            )
            if not reason:
                _reopen(study, now, priority)
            elif is_new or not any(instance.eligible for instance in study.instances):
                study.last_eligible_at = now
        log.info(
            "stored %s of study %s: %s%s",
            received.sop_instance_uid,
            received.study_instance_uid,
            intake,
            f", not analysed: {reason}" if reason else "",
        )
        return intake

    def _store_again(self, instance: Instance, study: Study, relative: str, now: datetime) -> Intake:
        """The same object came again: where its file was purged it has one again, else nothing changes.

        Raises:
            OutOfResources: If a purge took the new file for the old one: it is to be sent once more.
        """
        if instance.purged_at is None:
            return Intake.DUPLICATE
        if not self.archive.absolute(relative).is_file():
            raise OutOfResources(f"{instance.sop_instance_uid} was being purged")
        instance.purged_at, instance.path = None, relative
        # A purge counts a study's age from here.
        study.last_eligible_at = now
        log.info(
            "stored %s of study %s again after it was purged",
            instance.sop_instance_uid,
            study.study_instance_uid,
        )
        return Intake.STORED_AGAIN

    def reason_against(self, received: ReceivedObject) -> str:
        """Why its image is not to be analysed, or nothing."""
        reason = self.eligibility.reason_against(received.header)
        return _storable(reason) or ("" if received.has_pixels else "no pixel data")

    def _compare(self, relative: str, earlier: list[Instance]) -> Intake:
        """Against the first of the earlier files that is still there; the study's row is locked."""
        stored = [one for one in earlier if one.state == InstanceState.STORED and one.purged_at is None]
        present = [path for one in stored if (path := self.archive.absolute(one.path)).is_file()]
        if not present:
            return Intake.STORED
        same = same_pixels(present[0], self.archive.absolute(relative))
        return Intake.CORRECTED_HEADER if same else Intake.CONFLICT


def _succeed(earlier: list[Instance]) -> None:
    """Gives the place of purged versions of an image to the one that came now."""
    for instance in earlier:
        if instance.eligible and instance.purged_at is not None:
            instance.eligible, instance.reason = False, SUCCEEDED


def _lock_study(
    session: Session, received: ReceivedObject, now: datetime, priority: Priority
) -> tuple[Study, bool]:
    """The study's row, locked; two associations may bring its first two images at once."""
    values = {
        "study_instance_uid": received.study_instance_uid,
        "accession_number": _text(received, "AccessionNumber"),
        "study_date": _text(received, "StudyDate")[:8],
        "state": StudyState.RECEIVING,
        "receiving_since": now,
        "last_eligible_at": now,
        "priority": priority,
    }
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    inserted = session.execute(dialect.insert(Study).values(values).on_conflict_do_nothing())
    study = session.scalars(
        select(Study).where(Study.study_instance_uid == received.study_instance_uid).with_for_update()
    ).one()
    return study, cast("CursorResult[Any]", inserted).rowcount == 1


def _reopen(study: Study, now: datetime, priority: Priority) -> None:
    if study.state == StudyState.COMPLETE:
        study.state = StudyState.RECEIVING
        study.receiving_since = now
        study.priority = priority
    study.priority = min(study.priority, priority)
    study.last_eligible_at = now


def _text(received: ReceivedObject, keyword: str) -> str:
    value = received.header.get(keyword)
    return "" if value is None else _storable(str(value))


def _storable(text: str) -> str:
    """PostgreSQL's text cannot hold NUL, which some devices pad with."""
    return text.replace("\x00", "").strip()
