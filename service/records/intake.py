"""Writing down what arrived: the instance, its study, and what it means for them. One transaction.

DESIGN decision 2: the same object again changes nothing; the same UID with other bytes is archived beside the
first, as a corrected header where the pixels are the same, else as a conflict.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from sqlalchemy import bindparam, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from litegpt.isolation import Isolation
from service.archive import Archive
from service.eligibility import Eligibility
from service.errors import OutOfResources, TooLarge
from service.header import storable, texts
from service.pixels import same_pixels
from service.received import Digest, ReceivedObject, examine
from service.records.database import Records, utc_now
from service.records.forwarding import Forwarding, forward, withdraw_earlier
from service.records.ledger import Ledger
from service.records.states import InstanceState, Priority, StudyState
from service.records.tables import Instance, Study
from service.rules.facts import Facts

log = logging.getLogger(__name__)


CONFLICTING: Final = "other pixels under a UID that is already stored"
CORRECTED: Final = "corrected header of an image that is already stored"
"""Why an object is not analysed that came under a UID that was there."""

SUCCEEDED: Final = "purged, and stored again with other bytes"
"""Why an object is not analysed any more: whether it was the same image cannot be told, so the new one is."""


# Written once and not for each image: putting a statement together costs more than running it.
_KNOWN: Final = select(Instance.digest, Instance.path).where(
    Instance.sop_instance_uid == bindparam("uid"), Instance.purged_at.is_(None)
)
_STUDY: Final = (
    select(Study).where(Study.study_instance_uid == bindparam("study_instance_uid")).with_for_update()
)
_OF_STUDY: Final = select(func.count()).select_from(
    select(Instance.id)
    .join(Study)
    .where(Study.study_instance_uid == bindparam("study_instance_uid"))
    .limit(bindparam("most"))
    .subquery()
)
_VERSIONS: Final = (
    select(
        Instance.digest,
        Instance.path,
        Instance.state,
        Instance.eligible,
        Instance.purged_at.is_not(None),
        Instance.set_aside_at.is_not(None),
    )
    .join(Study)
    .where(
        Study.study_instance_uid == bindparam("study_instance_uid"),
        Instance.sop_instance_uid == bindparam("uid"),
    )
    .order_by(Instance.id)
)
# Of the table and not of the class: an object of the session's costs twice as much, and few need one.
_TABLE: Any = Instance.__table__
_ENTER: Final = insert(_TABLE).returning(_TABLE.c.id)


class Intake(StrEnum):
    """What became of a received object."""

    STORED = "stored"
    DUPLICATE = "duplicate"
    STORED_AGAIN = "stored again after it was purged"
    CORRECTED_HEADER = "corrected header"
    CONFLICT = "conflict"


@dataclass(frozen=True, slots=True)
class Kept:
    """What became of a received object, and why its image is not to be analysed (or nothing)."""

    intake: Intake
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Version:
    """One dataset that came under a SOP Instance UID, and the file that it lies in, or lay in if purged."""

    digest: str
    file: Path
    state: str
    eligible: bool
    purged: bool = False
    set_aside: bool = False


@dataclass(frozen=True, slots=True)
class Receiver:
    """Takes received files into the archive and the records.

    Attributes:
        forwarding: Where what a peer sends of its own accord is passed on to.
        maximum_instances: Of one study, whatever became of them; 0: any number.
        isolation: Where images that came twice are decoded, to be compared.
    """

    records: Records
    archive: Archive
    eligibility: Eligibility
    forwarding: Forwarding = field(default=Forwarding())
    maximum_instances: int = 0
    isolation: Isolation = field(default_factory=Isolation)
    ledger: Ledger = field(init=False)

    def __post_init__(self) -> None:
        """Those that write at the same time share a commit."""
        object.__setattr__(self, "ledger", Ledger(self.records))

    def take(
        self,
        path: Path,
        *,
        digest: Digest | None = None,
        sop_class_uid: str | None = None,
        sop_instance_uid: str | None = None,
        calling_ae_title: str = "",
        called_ae_title: str = "",
        priority: Priority = Priority.ROUTINE,
        fetched: bool = False,
    ) -> Intake:
        """Makes a received file safe: archived, synced and recorded when this returns.

        Args:
            path: A Part 10 file on the archive's file system; it is moved away unless it is a duplicate.
            digest: The dataset's, where it was taken as it came.
            sop_class_uid: The class that the C-STORE command named, if there was one.
            sop_instance_uid: The instance that it named.
            calling_ae_title: Who sent it.
            called_ae_title: Whom they called.
            priority: Of the analysis that it asks for.
            fetched: Whether the node has asked for it, and whoever has it keeps it: it is not passed on.

        Raises:
            CannotUnderstand: If the dataset cannot be read or identified.
            DatasetMismatch: If it is not what the command named.
            TooLarge: If its study has as many objects as it may have.
            OutOfResources: If archive or records would not take it just now.
        """
        received = examine(path, sop_class_uid, sop_instance_uid, digest)
        return self.keep(received, calling_ae_title, called_ae_title, priority, fetched).intake

    def keep(
        self,
        received: ReceivedObject,
        calling_ae_title: str = "",
        called_ae_title: str = "",
        priority: Priority = Priority.ROUTINE,
        fetched: bool = False,
    ) -> Kept:
        """As ``take``, of a file that has been examined; nobody may have written into it since.

        Raises:
            TooLarge: If its study has as many objects as it may have.
            OutOfResources: If archive or records would not take it just now.
        """
        if self.archive.has_images_of(received.study_instance_uid):  # else it cannot be there already
            with self.records.reading() as session:
                if received.digest in self._known(session, received.sop_instance_uid):
                    return Kept(Intake.DUPLICATE)
                self._require_room(session, received)
        relative = self.archive.take_image(
            received.path, received.study_instance_uid, received.sop_instance_uid, received.digest
        )
        facts = Facts.of(received.header, calling_ae_title, called_ae_title)
        return self._record(received, relative, facts, priority, fetched)

    def _require_room(self, session: Session, received: ReceivedObject) -> None:
        """Looked at before the file is taken: a few that come at once may be more."""
        if not self.maximum_instances:
            return
        values = {"study_instance_uid": received.study_instance_uid, "most": self.maximum_instances}
        count = session.scalar(_OF_STUDY, values) or 0
        if count >= self.maximum_instances:
            raise TooLarge(
                f"study {received.study_instance_uid} has {count} objects: maximum_instances_per_study"
            )

    def foresee(self, received: ReceivedObject, foreseen: Sequence[Version] = ()) -> Kept:
        """What ``keep`` would say, if ``foreseen`` had been kept before; nothing is written.

        Raises:
            OutOfResources: If the records are away.
        """
        if received.digest in self.known(received.sop_instance_uid):
            return Kept(Intake.DUPLICATE)
        with self.records.reading() as session:
            earlier = self._versions(session, received)
        return self._judge(received, received.path, [*earlier, *foreseen])

    def known(self, sop_instance_uid: str) -> set[str]:
        """The digests of what is recorded under a UID and whose files are there to stay."""
        with self.records.reading() as session:
            return self._known(session, sop_instance_uid)

    def _known(self, session: Session, sop_instance_uid: str) -> set[str]:
        rows = session.execute(_KNOWN, {"uid": sop_instance_uid}).all()
        return {digest for digest, path in rows if self.archive.absolute(path).is_file()}

    def _record(
        self, received: ReceivedObject, relative: str, facts: Facts, priority: Priority, fetched: bool
    ) -> Kept:
        kept = self.ledger.enter(
            lambda session: self._write(session, received, relative, facts, priority, fetched)
        )
        if kept.intake is not Intake.DUPLICATE:
            log.info(
                "stored %s of study %s: %s%s",
                received.sop_instance_uid,
                received.study_instance_uid,
                kept.intake,
                f", not analysed: {kept.reason}" if kept.reason else "",
            )
        return kept

    def _write(
        self,
        session: Session,
        received: ReceivedObject,
        relative: str,
        facts: Facts,
        priority: Priority,
        fetched: bool,
    ) -> Kept:
        now = utc_now()
        study, is_new = _lock_study(session, received, now, priority)
        earlier = [] if is_new else self._versions(session, received)
        kept = self._judge(received, self.archive.absolute(relative), earlier)
        if kept.intake is Intake.DUPLICATE:
            return kept
        if kept.intake is Intake.STORED_AGAIN:
            self._store_again(session, study, received, relative)
            return kept
        if not kept.reason and any(version.purged and version.eligible for version in earlier):
            _succeed(session, study, received)
        instance_id = session.scalar(_ENTER, _row(study, received, kept, relative, facts, now))
        if not kept.reason:
            _reopen(study, now, priority)
        elif is_new or not any(instance.eligible for instance in study.instances):
            study.last_eligible_at = now
        goes_to = () if fetched else self.forwarding.destinations_of(facts)
        if goes_to:
            forward(session, study, session.get_one(Instance, instance_id), goes_to)
        if kept.intake is Intake.CORRECTED_HEADER:
            withdraw_earlier(session, study, session.get_one(Instance, instance_id))
        return kept

    def _store_again(self, session: Session, study: Study, received: ReceivedObject, relative: str) -> None:
        """Gives a purged object its file again; a purge counts the study's age anew.

        Raises:
            OutOfResources: If a purge took the new file for the old one: it is to be sent once more.
        """
        if not self.archive.absolute(relative).is_file():
            raise OutOfResources(f"{received.sop_instance_uid} was being purged")
        session.execute(
            update(Instance)
            .where(Instance.sop_instance_uid == received.sop_instance_uid, Instance.digest == received.digest)
            .values(purged_at=None, path=relative)
        )
        study.last_eligible_at = utc_now()

    def _versions(self, session: Session, received: ReceivedObject) -> list[Version]:
        """What is recorded under its UID in its study, in the order in which it came."""
        values = {"study_instance_uid": received.study_instance_uid, "uid": received.sop_instance_uid}
        rows = session.execute(_VERSIONS, values).all()
        return [
            Version(digest, self.archive.absolute(path), state, eligible, purged, set_aside)
            for digest, path, state, eligible, purged, set_aside in rows
        ]

    def _judge(self, received: ReceivedObject, file: Path, earlier: Sequence[Version]) -> Kept:
        """Against the first of the earlier files that is still there."""
        same = [version for version in earlier if version.digest == received.digest]
        own = reason_against(received, self.eligibility)
        if same:
            purged = all(version.purged for version in same)
            return Kept(Intake.STORED_AGAIN, own) if purged else Kept(Intake.DUPLICATE)
        used = [version for version in earlier if not version.set_aside]
        stored = [version for version in used if version.state == InstanceState.STORED]
        there = (version.file for version in stored if not version.purged and version.file.is_file())
        present = next(there, None)
        intake = Intake.STORED
        if present is not None:
            intake = (
                Intake.CORRECTED_HEADER if same_pixels(present, file, self.isolation) else Intake.CONFLICT
            )
        if intake is Intake.CONFLICT:
            return Kept(intake, CONFLICTING)
        # What is purged has no pixels to compare with: the new ones are to be read in its place.
        given_up = present is None and not own
        if any(version.eligible and not (version.purged and given_up) for version in earlier):
            return Kept(intake, CORRECTED)
        return Kept(intake, own)


def reason_against(received: ReceivedObject, eligibility: Eligibility) -> str:
    """Why an object's image is not to be analysed, or nothing."""
    reason = eligibility.reason_against(received.header)
    return storable(reason) or ("" if received.has_pixels else "no pixel data")


def version_of(received: ReceivedObject, kept: Kept) -> Version:
    """What would be recorded of a received object, were it kept."""
    return Version(received.digest, received.path, _state_of(kept.intake), not kept.reason)


def _state_of(intake: Intake) -> InstanceState:
    return InstanceState.CONFLICT if intake is Intake.CONFLICT else InstanceState.STORED


def _row(
    study: Study, received: ReceivedObject, kept: Kept, relative: str, facts: Facts, now: datetime
) -> dict[str, Any]:
    return {
        "study_id": study.id,
        "sop_instance_uid": received.sop_instance_uid,
        "sop_class_uid": received.sop_class_uid,
        "series_instance_uid": received.series_instance_uid,
        "transfer_syntax_uid": received.transfer_syntax_uid,
        "digest": received.digest,
        "path": relative,
        "size_bytes": received.size_bytes,
        "state": _state_of(kept.intake),
        "eligible": not kept.reason,
        "reason": kept.reason,
        "calling_ae_title": facts.calling_ae_title,
        "facts": facts.kept(),
        "received_at": now,
    }


def _succeed(session: Session, study: Study, received: ReceivedObject) -> None:
    """Gives the place of purged versions of an image to the one that came now."""
    session.execute(
        update(Instance)
        .where(
            Instance.study_id == study.id,
            Instance.sop_instance_uid == received.sop_instance_uid,
            Instance.eligible,
            Instance.purged_at.is_not(None),
        )
        .values(eligible=False, reason=SUCCEEDED)
    )


def _lock_study(
    session: Session, received: ReceivedObject, now: datetime, priority: Priority
) -> tuple[Study, bool]:
    """The study's row, locked, and whether it is new; two associations may bring its first images at once."""
    named = {"study_instance_uid": received.study_instance_uid}
    if study := session.scalars(_STUDY, named).one_or_none():
        return study, False
    values = {
        **named,
        "accession_number": _text(received, "AccessionNumber"),
        "study_date": _text(received, "StudyDate")[:8],
        "state": StudyState.RECEIVING,
        "receiving_since": now,
        "last_eligible_at": now,
        "priority": priority,
    }
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    insert = dialect.insert(Study).values(values).on_conflict_do_nothing().returning(Study)
    if inserted := session.scalars(insert).one_or_none():
        return inserted, True
    return session.scalars(_STUDY, named).one(), False


def _reopen(study: Study, now: datetime, priority: Priority) -> None:
    if study.state == StudyState.COMPLETE:
        study.state = StudyState.RECEIVING
        study.receiving_since = now
        study.priority = priority
    study.priority = min(study.priority, priority)
    study.last_eligible_at = now


def _text(received: ReceivedObject, keyword: str) -> str:
    return storable("\\".join(texts(received.header, keyword)))
