"""Erasing: every file and every row of a patient's studies goes, and their names in other rows.

As with any purge, a row first says, committed, that its file is given up; then the files go; then all rows
of the study do. In between, the audit holds the study's UID, by which the next purge finishes what a process
that was killed has begun. Afterwards it holds a digest of the UID.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sqlalchemy import Select, exists, func, not_, or_, select
from sqlalchemy.orm import Session

from service.archive import Archive
from service.erasing import traces
from service.erasing.hindrances import Hindrances, against, young_strangers
from service.erasing.search import Found
from service.erasing.traces import ACTION
from service.records.database import Records, utc_now
from service.records.journal import write_down
from service.records.overview import DELIVERED
from service.records.removal import delete_rows, of_study
from service.records.states import CallState
from service.records.tables import Analysis, AuditEvent, Delivery, Instance, Result, Study, WebhookCall

_NOT_OVER: Final = "{}"
"""The outcome, in the audit, of what has begun."""


@dataclass(frozen=True, slots=True)
class Content:
    """What the node holds of one study.

    Attributes:
        size_bytes: Of all files, as they lie on the disk.
        rows: Of its own, and of others that name it.
        hindrances: What stands against removing it.
    """

    study_instance_uid: str
    accession_number: str
    study_date: str
    images: int
    results: int
    files: int
    size_bytes: int
    rows: int
    hindrances: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Outlook:
    """What would go.

    Attributes:
        studies: Each of them, by UID.
        recipients: Destinations and webhooks that have got something of them, and keep it.
        jobs: Retrieval jobs under way that ask for the patient.
        anonymous: How many studies have no file left that could say whose they are.
    """

    studies: tuple[Content, ...]
    recipients: tuple[str, ...]
    jobs: tuple[int, ...]
    anonymous: int


@dataclass(slots=True)
class Erased:
    """What went.

    Attributes:
        rows: Deleted, or rid of names.
        stay: What stands against the studies that stay, by UID.
        again: UIDs of studies of which a file came, or may have come, meanwhile.
    """

    studies: int = 0
    files: int = 0
    size_bytes: int = 0
    rows: int = 0
    stay: Hindrances = field(default_factory=dict)
    again: list[str] = field(default_factory=list)

    def add(self, other: Erased) -> None:
        """Counts these in."""
        self.studies += other.studies
        self.files += other.files
        self.size_bytes += other.size_bytes
        self.rows += other.rows
        self.again += other.again


@dataclass(slots=True)
class Erasure:
    """Removes studies for good.

    Attributes:
        records: Of the node.
        archive: Its files.
        who: Who asks, for the audit.
        report: Told after each study that it is one more.
    """

    records: Records
    archive: Archive
    who: str
    report: Callable[[int], None] = field(default=lambda _: None)

    def look(self, found: Found, patient_id: str) -> Outlook:
        """What would go of what was found; nothing is changed.

        Raises:
            OutOfResources: If the database or the archive is away.
        """
        uids = sorted(found.studies)
        with self.records.rehearsing() as session:
            stand = against(session, self.archive, uids, found.mixed)
            recipients = sorted({name for uid in uids for name in _recipients(session, uid)})
            jobs = traces.jobs_that_ask_for(session, patient_id)
            anonymous = _anonymous(session)
            studies = [self._content(session, uid, stand.get(uid, [])) for uid in uids]
            outlook = Outlook(tuple(studies), tuple(recipients), tuple(jobs), anonymous)
        return outlook

    def run(self, found: Found, patient_id: str, *, even_if_open: bool = False) -> Erased:
        """Removes what was found; what has gone stays gone if it is broken off.

        Args:
            found: The patient's studies.
            patient_id: Jobs that are over forget it, too.
            even_if_open: Whether to remove studies that something stands against, as well.

        Raises:
            OutOfResources: If the database or the archive is away, or the disk does not let files go.
        """
        self.archive.require_there()
        erased = self.finish()
        for uid in sorted(found.studies):
            reasons = self._give_up(uid, found.mixed, even_if_open)
            if reasons:
                erased.stay[uid] = reasons
            else:
                erased.add(self.finish())
            self.report(1)
        with self.records.writing() as session:
            erased.rows += traces.forget_patient(session, patient_id)
        self.records.forget_deleted()
        return erased

    def finish(self) -> Erased:
        """Removes what was given up: just now, or by a process that was killed.

        Raises:
            OutOfResources: If the database or the archive is away, or the disk does not let files go.
        """
        with self.records.reading() as session:
            begun = session.scalars(_begun().order_by(AuditEvent.id)).all()
        erased = Erased()
        for event_id in begun:
            erased.add(self._remove(event_id))
        return erased

    def _content(self, session: Session, uid: str, reasons: Sequence[str]) -> Content:
        sizes = self._sizes(uid)
        files, size = len(sizes), sum(sizes.values())
        study = session.scalars(select(Study).where(Study.study_instance_uid == uid)).one_or_none()
        if study is None:
            rows = traces.forget_study(session, traces.Names(uid, "", ()))
            return Content(uid, "", "", 0, 0, files, size, rows, tuple(reasons))
        images, results = _images(session, study), _results(session, study)
        number, day = study.accession_number, study.study_date
        rows = _forget(session, study, images)
        return Content(uid, number, day, len(images), len(results), files, size, rows, tuple(reasons))

    def _give_up(self, uid: str, mixed: Collection[str], even_if_open: bool) -> list[str]:
        """Says of all of a study's files that they are given up; what stands against that is returned."""
        with self.records.writing() as session:
            study = _locked(session, uid)
            reasons = against(session, self.archive, [uid], mixed).get(uid, [])
            if reasons and not even_if_open:
                return reasons
            if study is not None:
                for file in _files(session, study):
                    file.purged_at = file.purged_at or utc_now()
            write_down(session, self.who, ACTION, studies={"studies": [uid]})
        return []

    def _remove(self, event_id: int) -> Erased:
        """Removes the files that are given up, then the rows, unless an image has come again meanwhile."""
        with self.records.writing() as session:
            event = session.get_one(AuditEvent, event_id)
            (uid,) = json.loads(event.asked)["studies"]["studies"]
            study = _locked(session, uid)
            before = self._sizes(uid)
            came = False
            if study is None:
                self.archive.clear(uid, gone=(), keep=())
            else:
                came = self._clear(session, study)
            late = came or young_strangers(session, self.archive, uid)
            gone = before.keys() - set(self.archive.files_of(uid))
            erased = Erased(
                studies=0 if came else 1,
                files=len(gone),
                size_bytes=sum(before[path] for path in gone),
                rows=0 if came else self._forget(session, uid, study),
                again=[uid] if late else [],
            )
            event.asked = json.dumps({"studies": {"studies": [traces.digest_of(uid)]}})
            event.outcome = json.dumps(
                {"studies": erased.studies, "files": erased.files, "rows": erased.rows}
            )
        return erased

    def _sizes(self, uid: str) -> dict[Path, int]:
        """The files of a study, and how large they are."""
        root = self.archive.root
        return {path: self.archive.size(str(path.relative_to(root))) for path in self.archive.files_of(uid)}

    def _clear(self, session: Session, study: Study) -> bool:
        """Removes a study's files that are given up; whether others have come since is returned."""
        files = _files(session, study)
        gone = [file for file in files if file.purged_at]
        keep = {file.path for file in files if not file.purged_at}
        self.archive.clear(study.study_instance_uid, {file.path for file in gone if file.path}, keep)
        for file in gone:
            file.path = ""
        session.flush()
        return bool(keep)

    @staticmethod
    def _forget(session: Session, uid: str, study: Study | None) -> int:
        if study is None:
            return traces.forget_study(session, traces.Names(uid, "", ()))
        return _forget(session, study, _images(session, study))


def _forget(session: Session, study: Study, images: Iterable[Instance]) -> int:
    """Deletes a study's rows and its names in others; how many rows that were is returned."""
    uids = [image.sop_instance_uid for image in images]
    names = traces.Names(study.study_instance_uid, study.accession_number, list(dict.fromkeys(uids)))
    return traces.forget_study(session, names) + delete_rows(session, study.id)


def _locked(session: Session, uid: str) -> Study | None:
    """The study, held, with its analyses: who opens it again, or changes its results, holds one of these."""
    study = session.scalars(
        select(Study).where(Study.study_instance_uid == uid).with_for_update()
    ).one_or_none()
    if study is not None:
        session.execute(select(Analysis.id).where(Analysis.study_id == study.id).with_for_update()).all()
    return study


def _images(session: Session, study: Study) -> Sequence[Instance]:
    return session.scalars(select(Instance).where(Instance.study_id == study.id)).all()


def _results(session: Session, study: Study) -> Sequence[Result]:
    return session.scalars(select(Result).join(Analysis).where(Analysis.study_id == study.id)).all()


def _files(session: Session, study: Study) -> list[Instance | Result]:
    return [*_images(session, study), *_results(session, study)]


def _begun() -> Select[int]:
    return select(AuditEvent.id).where(AuditEvent.action == ACTION, AuditEvent.outcome == _NOT_OVER)


def _recipients(session: Session, uid: str) -> set[str]:
    """Who has got a result or an image of a study, or was told of it."""
    study_id = session.scalar(select(Study.id).where(Study.study_instance_uid == uid))
    if study_id is None:
        return set()
    sent = select(Delivery.destination).where(of_study(study_id), Delivery.state.in_(DELIVERED))
    told = (
        select(WebhookCall.webhook)
        .join(Analysis)
        .where(Analysis.study_id == study_id, WebhookCall.state == CallState.SENT)
    )
    return {*session.scalars(sent), *(f"webhook {name}" for name in session.scalars(told))}


def _anonymous(session: Session) -> int:
    """How many studies have nothing in the archive any more."""
    image = exists().where(Instance.study_id == Study.id, Instance.purged_at.is_(None))
    result = exists().where(
        Analysis.study_id == Study.id, Result.analysis_id == Analysis.id, Result.purged_at.is_(None)
    )
    nothing = select(func.count()).select_from(Study).where(not_(or_(image, result)))
    return session.scalar(nothing) or 0
