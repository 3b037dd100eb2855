"""Writing down what arrived: the instance, its study, and what it means for them. One transaction."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, bindparam, func, insert, select, update
from sqlalchemy.orm import Session

from litegpt.isolation import Isolation
from service.archive import Archive
from service.eligibility import Eligibility
from service.errors import OutOfResources, TooLarge
from service.received import Digest, FileMeta, ReceivedObject, examine
from service.records.database import Records, utc_now
from service.records.forwarding import Forwarding, forward, withdraw_earlier
from service.records.ledger import Ledger
from service.records.receiving import any_eligible, begin, lock
from service.records.states import Priority
from service.records.tables import Instance, Study
from service.records.versions import Intake, Judge, Kept, Version, versions
from service.rules.facts import Facts

log = logging.getLogger(__name__)

SUCCEEDED: Final = "purged, and stored again with other bytes"
"""Why an object is not analysed any more: whether it was the same image cannot be told, so the new one is."""

# Written once and not for each image: putting a statement together costs more than running it.
_KNOWN: Final = select(Instance.digest, Instance.path).where(
    Instance.sop_instance_uid == bindparam("uid"), Instance.purged_at.is_(None)
)
_OF_STUDY: Final = select(func.count()).select_from(
    select(Instance.id)
    .join(Study)
    .where(Study.study_instance_uid == bindparam("study_instance_uid"))
    .limit(bindparam("most"))
    .subquery()
)
_INSTANCES: Any = Instance.__table__
_ENTER: Final = insert(_INSTANCES).returning(_INSTANCES.c.id)


@dataclass(frozen=True, slots=True)
class _Arrival:
    """What is to be recorded of a file that lies in the archive.

    Attributes:
        relative: Where it lies.
        is_first: Whether its study had no image there, so that it has begun most likely.
    """

    received: ReceivedObject
    relative: str
    facts: Facts
    priority: Priority
    fetched: bool
    is_first: bool


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
    judge: Judge = field(init=False)

    def __post_init__(self) -> None:
        """Those that write at the same time share a commit."""
        object.__setattr__(self, "ledger", Ledger(self.records))
        object.__setattr__(self, "judge", Judge(self.eligibility, self.isolation))

    def take(
        self,
        path: Path,
        *,
        digest: Callable[[], Digest | None] | None = None,
        meta: FileMeta | None = None,
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
            digest: Gives the dataset's, where it is taken as it comes.
            meta: The file meta information, where it was written here.
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
        received = examine(path, sop_class_uid, sop_instance_uid, digest, meta)
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
        study_uid, uid, digest = received.study_instance_uid, received.sop_instance_uid, received.digest
        if self.archive.has_image(study_uid, uid, digest) and digest in self.known(uid):
            return Kept(Intake.DUPLICATE)
        is_first = not self.archive.has_images_of(study_uid)
        if not is_first:
            self._require_room(study_uid)
        relative = self.archive.take_image(received.path, study_uid, uid, digest)
        facts = Facts.of(received.header, calling_ae_title, called_ae_title)
        return self._record(_Arrival(received, relative, facts, priority, fetched, is_first))

    def _require_room(self, study_uid: str) -> None:
        """Looked at before the file is taken: a few that come at once may be more."""
        if not self.maximum_instances:
            return
        with self.records.connecting() as connection:
            values = {"study_instance_uid": study_uid, "most": self.maximum_instances}
            count = connection.scalar(_OF_STUDY, values) or 0
        if count >= self.maximum_instances:
            raise TooLarge(f"study {study_uid} has {count} objects: maximum_instances_per_study")

    def foresee(self, received: ReceivedObject, foreseen: Sequence[Version] = ()) -> Kept:
        """What ``keep`` would say, if ``foreseen`` had been kept before; nothing is written.

        Raises:
            OutOfResources: If the records are away.
        """
        if received.digest in self.known(received.sop_instance_uid):
            return Kept(Intake.DUPLICATE)
        with self.records.connecting() as connection:
            earlier = versions(connection, self.archive, received)
        return self.judge.of_next(received, received.path, [*earlier, *foreseen])

    def known(self, sop_instance_uid: str) -> set[str]:
        """The digests of what is recorded under a UID and whose files are there to stay."""
        with self.records.connecting() as connection:
            rows = connection.execute(_KNOWN, {"uid": sop_instance_uid}).all()
        return {digest for digest, path in rows if self.archive.absolute(path).is_file()}

    def _record(self, arrival: _Arrival) -> Kept:
        kept = self.ledger.enter(lambda connection: self._write(connection, arrival))
        if kept.intake is not Intake.DUPLICATE:
            log.info(
                "stored %s of study %s: %s%s",
                arrival.received.sop_instance_uid,
                arrival.received.study_instance_uid,
                kept.intake,
                f", not analysed: {kept.reason}" if kept.reason else "",
            )
        return kept

    def _write(self, connection: Connection, arrival: _Arrival) -> Kept:
        now = utc_now()
        if arrival.is_first:
            study_id = begin(connection, arrival.received, arrival.priority, now)
            if study_id is not None:
                kept = self.judge.of_first(arrival.received)
                self._enter(connection, study_id, arrival, kept, now)
                return kept
        return self._write_next(connection, arrival, now)

    def _write_next(self, connection: Connection, arrival: _Arrival, now: datetime) -> Kept:
        received, file = arrival.received, self.archive.absolute(arrival.relative)
        study = lock(connection, received, arrival.priority, now)
        earlier = versions(connection, self.archive, received)
        kept = self.judge.of_next(received, file, earlier)
        if kept.intake is Intake.DUPLICATE:
            return kept
        if kept.intake is Intake.STORED_AGAIN:
            if not file.is_file():  # a purge took the new file for the old one: it is to be sent once more
                raise OutOfResources(f"{received.sop_instance_uid} was being purged")
            _store_again(connection, arrival)
            study.counts_from(connection, now)
            return kept
        if not kept.reason and any(version.purged and version.eligible for version in earlier):
            _succeed(connection, study.id, received)
        if not kept.reason:
            study.came(connection, now, arrival.priority)
        elif not any_eligible(connection, study.id):
            study.counts_from(connection, now)
        instance_id = self._enter(connection, study.id, arrival, kept, now)
        if kept.intake is Intake.CORRECTED_HEADER:
            with _objects(connection, study.id, instance_id) as (session, its_study, instance):
                withdraw_earlier(session, its_study, instance)
        return kept

    def _enter(
        self, connection: Connection, study_id: int, arrival: _Arrival, kept: Kept, now: datetime
    ) -> int | None:
        """Writes the instance's row, whose id is returned, and has it passed on."""
        instance_id: int | None = connection.scalar(_ENTER, _row(study_id, arrival, kept, now))
        goes_to = () if arrival.fetched else self.forwarding.destinations_of(arrival.facts)
        if goes_to:
            with _objects(connection, study_id, instance_id) as (session, study, instance):
                forward(session, study, instance, goes_to)
        return instance_id


@contextmanager
def _objects(
    connection: Connection, study_id: int, instance_id: int | None
) -> Iterator[tuple[Session, Study, Instance]]:
    """A session within the transaction, and its objects. Few images need them."""
    with Session(connection) as session:
        yield session, session.get_one(Study, study_id), session.get_one(Instance, instance_id)
        session.flush()


def _row(study_id: int, arrival: _Arrival, kept: Kept, now: datetime) -> dict[str, Any]:
    received, facts = arrival.received, arrival.facts
    return {
        "study_id": study_id,
        "sop_instance_uid": received.sop_instance_uid,
        "sop_class_uid": received.sop_class_uid,
        "series_instance_uid": received.series_instance_uid,
        "transfer_syntax_uid": received.transfer_syntax_uid,
        "digest": received.digest,
        "path": arrival.relative,
        "size_bytes": received.size_bytes,
        "state": kept.intake.state,
        "eligible": not kept.reason,
        "reason": kept.reason,
        "calling_ae_title": facts.calling_ae_title,
        "facts": facts.kept(),
        "received_at": now,
    }


def _store_again(connection: Connection, arrival: _Arrival) -> None:
    """Gives a purged object its file again."""
    received = arrival.received
    connection.execute(
        update(Instance)
        .where(Instance.sop_instance_uid == received.sop_instance_uid, Instance.digest == received.digest)
        .values(purged_at=None, path=arrival.relative)
    )


def _succeed(connection: Connection, study_id: int, received: ReceivedObject) -> None:
    """Gives the place of purged versions of an image to the one that came now."""
    connection.execute(
        update(Instance)
        .where(
            Instance.study_id == study_id,
            Instance.sop_instance_uid == received.sop_instance_uid,
            Instance.eligible,
            Instance.purged_at.is_not(None),
        )
        .values(eligible=False, reason=SUCCEEDED)
    )
