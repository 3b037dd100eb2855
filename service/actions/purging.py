"""Purging: files of studies that are settled go, the oldest first; what was found of them stays.

A row first says, committed, that its file is given up; then the file goes, and the row forgets its path. What
says "purged" and still has a path was left by a process that was killed: the next purge begins with it. Both
steps lock the study's row, as whatever opens a study again does: no file goes that came meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, Select, and_, exists, not_, or_, select
from sqlalchemy.orm import Session

from service.actions.analysing import newest_analyses
from service.archive import Archive
from service.records import attempts, safekeeping
from service.records.commitments import AWAITED_BY_VALUE
from service.records.database import Records, utc_now
from service.records.journal import write_down
from service.records.standing import settled
from service.records.states import WAITING, DeliveryState, Purpose
from service.records.tables import Analysis, Delivery, Instance, Result, Study

STUDIES_AT_ONCE: Final = 50


@dataclass(slots=True)
class Purged:
    """What went, or would go.

    Attributes:
        size_bytes: Of the files, as they lay on the disk.
        enough: Whether as much is free as was asked for.
    """

    studies: int = 0
    images: int = 0
    results: int = 0
    size_bytes: int = 0
    enough: bool = True


@dataclass(frozen=True, slots=True)
class Limits:
    """How far a purge goes; at least one of them is given.

    Attributes:
        received_before: Only studies whose last image came earlier.
        free_bytes: Only until so much is free on the archive's disk.
    """

    received_before: datetime | None = None
    free_bytes: int | None = None


@dataclass(slots=True)
class Purge:
    """One purge.

    Attributes:
        records: Of the node.
        archive: Its files.
        who: Who asks, for the audit.
        dry_run: Whether to say what would go, and to change nothing.
        report: Told after each page how many studies it had.
    """

    records: Records
    archive: Archive
    who: str
    dry_run: bool = False
    report: Callable[[int], None] = field(default=lambda _: None)

    def run(self, limits: Limits) -> Purged:
        """Purges as far as the limits say; what has gone stays gone if it is broken off.

        Raises:
            OutOfResources: If the database or the archive is away, or the disk does not let files go.
        """
        self.archive.require_there()
        purged = Purged()
        try:
            if not self.dry_run:
                self._finish_what_was_begun()
            for study_ids in self._until_enough(limits, purged):
                self._purge(study_ids, limits, purged)
                self.report(len(study_ids))
        finally:
            if purged.studies and not self.dry_run:
                self._write_down(limits, purged)
        return purged

    def _until_enough(self, limits: Limits, purged: Purged) -> Iterator[list[int]]:
        before = self.archive.free_bytes()
        for study_ids in _pages(self.records, limits):
            if self._is_enough(limits, before, purged):
                return
            yield study_ids
        purged.enough = limits.free_bytes is None or self._is_enough(limits, before, purged)

    def _is_enough(self, limits: Limits, before: int, purged: Purged) -> bool:
        free = before + purged.size_bytes if self.dry_run else self.archive.free_bytes()
        return limits.free_bytes is not None and free >= limits.free_bytes

    def _purge(self, study_ids: Sequence[int], limits: Limits, purged: Purged) -> None:
        with self.records.rehearsing() if self.dry_run else self.records.writing() as session:
            given_up = _lock_purgeable(session, study_ids, limits)
            went = self._give_up(session, given_up)
        for name in ("studies", "images", "results", "size_bytes"):
            setattr(purged, name, getattr(purged, name) + getattr(went, name))
        if not self.dry_run:
            self._remove(given_up)

    def _give_up(self, session: Session, study_ids: Sequence[int]) -> Purged:
        """Says of every file that these studies have that it is given up."""
        images = session.scalars(
            select(Instance).where(Instance.study_id.in_(study_ids), Instance.purged_at.is_(None))
        ).all()
        results = session.scalars(
            select(Result).join(Analysis).where(Analysis.study_id.in_(study_ids), Result.purged_at.is_(None))
        ).all()
        files: list[Instance | Result] = [*images, *results]
        now = utc_now()
        for file in files:
            file.purged_at = now
        attempts.forget(session, study_ids)
        size = sum(self.archive.size(file.path) for file in files)
        return Purged(len(study_ids), len(images), len(results), size)

    def _remove(self, study_ids: Sequence[int]) -> None:
        """Removes the files that are given up, and what no row names beside them."""
        with self.records.writing() as session:
            studies = session.scalars(_locked(study_ids)).all()
            for study in studies:
                results = session.scalars(select(Result).join(Analysis).where(Analysis.study_id == study.id))
                files: list[Instance | Result] = [*study.instances, *results]
                gone = [file for file in files if file.purged_at and file.path]
                keep = {file.path for file in files if not file.purged_at}
                self.archive.clear(study.study_instance_uid, {file.path for file in gone}, keep)
                for file in gone:
                    file.path = ""

    def _finish_what_was_begun(self) -> None:
        image = exists().where(
            Instance.study_id == Study.id, Instance.purged_at.is_not(None), Instance.path != ""
        )
        result = exists().where(
            Analysis.study_id == Study.id,
            Result.analysis_id == Analysis.id,
            Result.purged_at.is_not(None),
            Result.path != "",
        )
        begun = select(Study.id).where(or_(image, result)).order_by(Study.id)
        with self.records.reading() as session:
            study_ids = session.scalars(begun).all()
        for start in range(0, len(study_ids), STUDIES_AT_ONCE):
            self._remove(study_ids[start : start + STUDIES_AT_ONCE])

    def _write_down(self, limits: Limits, purged: Purged) -> None:
        asked = {name: str(value) for name, value in asdict(limits).items() if value is not None}
        outcome = {name: value for name, value in asdict(purged).items() if name != "enough"}
        with self.records.writing() as session:
            write_down(session, self.who, "purge", outcome, **asked)


def purgeable(limits: Limits) -> list[ColumnElement[bool]]:
    """The conditions on a ``Study`` whose files may go.

    A study is not settled while a destination has not committed to what it was sent, and is to: what it does
    not commit to is sent again. What the node has promised to keep stays until then.
    """
    conditions = [settled(), not_(waits_for_a_shadow()), not_(safekeeping.kept(utc_now()))]
    if limits.received_before is not None:
        conditions.append(Study.last_eligible_at < limits.received_before)
    return conditions


def waits_for_a_shadow() -> ColumnElement[bool]:
    """Whether a shadow is still to read the study, or to send what it found in it to its test destination."""
    in_shadow = (Analysis.study_id == Study.id, Analysis.purpose == Purpose.SHADOW)
    of_result = (Result.analysis_id == Analysis.id, Delivery.result_id == Result.id)
    return or_(
        exists().where(*in_shadow, Analysis.state.in_(WAITING)),
        exists().where(*in_shadow, *of_result, or_(Delivery.state == DeliveryState.DUE, AWAITED_BY_VALUE)),
    )


def _pages(records: Records, limits: Limits) -> Iterator[list[int]]:
    """The studies that may be purged and still have a file, by when their last image came."""
    has_image = exists().where(Instance.study_id == Study.id, Instance.purged_at.is_(None))
    has_result = exists().where(
        Analysis.study_id == Study.id, Result.analysis_id == Analysis.id, Result.purged_at.is_(None)
    )
    chosen = (
        select(Study.id, Study.last_eligible_at)
        .where(*purgeable(limits), or_(has_image, has_result))
        .order_by(Study.last_eligible_at, Study.id)
        .limit(STUDIES_AT_ONCE)
    )
    page = chosen
    while True:
        with records.reading() as session:
            rows = session.execute(page).all()
        if not rows:
            return
        yield [row.id for row in rows]
        last = rows[-1]
        same_moment = and_(Study.last_eligible_at == last.last_eligible_at, Study.id > last.id)
        page = chosen.where(or_(Study.last_eligible_at > last.last_eligible_at, same_moment))


def _lock_purgeable(session: Session, study_ids: Sequence[int], limits: Limits) -> list[int]:
    """Those of these studies that may be purged, now that nobody else can open one of them again."""
    session.scalars(_locked(study_ids)).all()
    newest_analyses(session, study_ids)  # whoever changes their results holds these
    return list(session.scalars(select(Study.id).where(Study.id.in_(study_ids), *purgeable(limits))))


def _locked(study_ids: Sequence[int]) -> Select[Study]:
    return select(Study).where(Study.id.in_(study_ids)).order_by(Study.id).with_for_update()
