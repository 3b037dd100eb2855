"""The course of a self-test: in by C-STORE as a modality would, then followed in the records to its end.

Everything between is done by the node that runs: its listener, its sweeper, its workers. Only the quiet
period is cut short. What the test study leaves is removed once it has arrived everywhere; one that has not
stays for a look, and goes with a later self-test.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Final, TypeVar

from sqlalchemy import func, select
from sqlalchemy.orm import Session, joinedload, selectinload

from service.actions.action import Course
from service.actions.analysing import Force
from service.archive import Archive, file_digest
from service.completion import Completion
from service.errors import NodeError, StillInWork
from service.peers import Destination
from service.records.database import Records, utc_now
from service.records.overview import DELIVERED
from service.records.removal import remove_study
from service.records.selection import Selection
from service.records.states import WAITING, AnalysisState, DeliveryState
from service.records.tables import Analysis, Delivery, Finding, Result, Study
from service.rules.rulebook import Rules
from service.selftest.marks import is_selftest
from service.selftest.study import ACCESSION_NUMBER, SyntheticStudy, write_study
from service.settings import Settings
from service.wire.sender import Sender

Found = TypeVar("Found")

CALLING_AE_TITLE: Final = "SELFTEST"
_LEFTOVER_AGE: Final = timedelta(hours=1)
_LOOK_EVERY_SECONDS: Final = 0.1


class Ending(StrEnum):
    """How a phase ended."""

    OK = "ok"
    FAILED = "failed"
    MISSING = "missing"
    LEFT_OUT = "left out"


@dataclass(frozen=True, slots=True)
class Phase:
    """One step of the test study; ``missing`` is what had not come when the time was over."""

    name: str
    ending: Ending
    seconds: float | None = None
    detail: str = ""


class _Ended(Exception):
    """The rest cannot follow."""

    def __init__(self, phase: Phase) -> None:
        super().__init__(phase.name)
        self.phase = phase


@dataclass(slots=True)
class SelfTest:
    """One self-test.

    Attributes:
        node: Where the node listens.
        destinations: Addresses that the report must reach; none: all that the node has.
        deliver: Whether there are deliveries at all.
        timeout_seconds: For everything after the node has taken the image.
        study_instance_uid: Of the test study, once it has been sent.
    """

    settings: Settings
    records: Records
    archive: Archive
    node: Destination
    destinations: Sequence[str]
    deliver: bool
    timeout_seconds: float
    study_instance_uid: str = ""
    _deadline: float = field(default=0.0)

    def run(self) -> Iterator[Phase]:
        """Yields each phase as it ends; one that is not in order ends the test, but for other deliveries."""
        try:
            yield self._sent()
            self._deadline = time.monotonic() + self.timeout_seconds
            yield self._completed()
            yield from self._analysed()
            in_order = True
            for phase in self._delivered():
                in_order &= phase.ending in {Ending.OK, Ending.LEFT_OUT}
                yield phase
            if in_order:
                yield self._removed()
        except _Ended as ended:
            yield ended.phase

    def _sent(self) -> Phase:
        name = f"sent to {self.node}"
        allowed = [caller.ae_title for caller in self.settings.calling_ae_titles]
        calling = CALLING_AE_TITLE if not allowed or CALLING_AE_TITLE in allowed else allowed[0]
        modality = Sender(self.settings.model_copy(update={"ae_title": calling}), to_ourselves=True)
        with tempfile.TemporaryDirectory() as folder:
            now = utc_now().astimezone(self.settings.zone)
            study = write_study(Path(folder), now, held=not self.deliver)
            begun = time.monotonic()
            try:
                _store(modality, self.node, study)
            except NodeError as error:
                raise _Ended(Phase(name, Ending.FAILED, detail=str(error))) from error
            seconds = time.monotonic() - begun
        self.study_instance_uid = study.study_instance_uid
        with self.records.reading() as session:
            of_study = Study.study_instance_uid == self.study_instance_uid
            if session.scalar(select(Study.id).where(of_study)) is None:
                why = "it took the image, but into other records than these settings name"
                raise _Ended(Phase(name, Ending.FAILED, seconds, why))
        return Phase(name, Ending.OK, seconds, f"as {calling}")

    def _completed(self) -> Phase:
        begun = time.monotonic()
        completion = Completion.at_present(self.settings, self.records)
        of_ours = Selection(studies=(self.study_instance_uid,))
        Course(self.records, "selftest").run(Force(completion), of_ours)
        return Phase("completed", Ending.OK, time.monotonic() - begun, "without its quiet period")

    def _analysed(self) -> Iterator[Phase]:
        def look(session: Session) -> Analysis | None:
            return _newest_analysis(session, self.study_instance_uid)

        analysis = self._wait(look, lambda found: found is not None and found.state not in WAITING)
        if analysis is None or analysis.state in WAITING:
            raise _Ended(Phase("analysed", Ending.MISSING, detail=_why_waiting(analysis)))
        if analysis.state != AnalysisState.DONE or analysis.finished_at is None:
            raise _Ended(Phase("analysed", Ending.FAILED, detail=f"{analysis.state}: {analysis.error}"))
        started = analysis.started_at or analysis.finished_at
        yield Phase("taken up", Ending.OK, _seconds(analysis.created_at, started), "by an analysis worker")
        with self.records.reading() as session:
            of_analysis = Finding.analysis_id == analysis.id
            findings = session.scalar(select(func.count()).select_from(Finding).where(of_analysis))
        model = f"{analysis.model_id} {analysis.model_version}, {findings} findings"
        yield Phase("analysed", Ending.OK, _seconds(started, analysis.finished_at), model)
        yield self._reported(analysis)

    def _reported(self, analysis: Analysis) -> Phase:
        if not analysis.results:
            raise _Ended(Phase("reported", Ending.MISSING, detail="the analysis has no result"))
        for result in analysis.results:
            try:
                whole = file_digest(self.archive.absolute(result.path)) == result.digest
            except OSError as error:
                raise _Ended(Phase("reported", Ending.FAILED, detail=f"{result.path}: {error}")) from error
            if not whole:
                why = f"{result.path} is not what was written"
                raise _Ended(Phase("reported", Ending.FAILED, detail=why))
        kinds = ", ".join(sorted({result.kind for result in analysis.results}))
        return Phase("reported", Ending.OK, detail=kinds)

    def _delivered(self) -> Iterator[Phase]:
        with self.records.reading() as session:
            made = {one.destination for one in _deliveries(session, self.study_instance_uid)}
        if not self.deliver:
            if made:
                why = f"deliveries to {', '.join(sorted(made))} were made all the same"
                raise _Ended(Phase("delivered", Ending.FAILED, detail=why))
            yield Phase("delivered", Ending.LEFT_OUT, detail="no delivery was made, as asked")
            return
        wanted = set(self.destinations) or made | self._sent_to()
        if not wanted:
            yield Phase("delivered", Ending.LEFT_OUT, detail="the node has no destination")
        for destination in sorted(wanted):
            if destination in made:
                yield self._delivered_to(destination)
            else:
                why = "no delivery was made: the worker's settings have no such destination"
                yield Phase(f"delivered to {destination}", Ending.MISSING, detail=why)

    def _sent_to(self) -> set[str]:
        """Where the rules, as they are now, send what the analysis went by."""
        with self.records.reading() as session:
            analysis = _newest_analysis(session, self.study_instance_uid)
        name = analysis.result_rule if analysis else ""
        rules = Rules.read(self.settings).result
        return {to.address for rule in rules if rule.name == name for to in rule.destinations}

    def _delivered_to(self, destination: str) -> Phase:
        def look(session: Session) -> list[Delivery]:
            made = _deliveries(session, self.study_instance_uid)
            return [one for one in made if one.destination == destination]

        def are_over(found: list[Delivery]) -> bool:
            return all(one.state != DeliveryState.DUE for one in found)

        name, deliveries = f"delivered to {destination}", self._wait(look, are_over)
        errors = "; ".join(dict.fromkeys(one.error for one in deliveries if one.error))
        if not are_over(deliveries):
            return Phase(name, Ending.MISSING, detail=f"still due: {errors or 'no worker took it up'}")
        sent = [one.sent_at for one in deliveries if one.state in DELIVERED and one.sent_at]
        if not sent or any(one.state == DeliveryState.REFUSED for one in deliveries):
            return Phase(name, Ending.FAILED, detail=errors)
        begun = min(one.result.created_at for one in deliveries if one.result)
        return Phase(name, Ending.OK, _seconds(begun, max(sent)), errors)

    def _removed(self) -> Phase:
        begun = time.monotonic()
        try:
            files = remove_study(self.records, self.archive, self.study_instance_uid)
        except StillInWork as error:
            return Phase("removed", Ending.MISSING, detail=str(error))
        return Phase("removed", Ending.OK, time.monotonic() - begun, f"its rows and {files} files")

    def _wait(self, look: Callable[[Session], Found], is_enough: Callable[[Found], bool]) -> Found:
        """Looks until it is enough or the time is over; what was seen last is returned."""
        while True:
            with self.records.reading() as session:
                found = look(session)
            if is_enough(found) or time.monotonic() >= self._deadline:
                return found
            time.sleep(_LOOK_EVERY_SECONDS)


def remove_leftovers(records: Records, archive: Archive) -> int:
    """Removes what earlier self-tests left, where it has ended since; returns how many those were."""
    with records.reading() as session:
        old = select(Study.study_instance_uid).where(
            Study.accession_number == ACCESSION_NUMBER, Study.last_eligible_at < utc_now() - _LEFTOVER_AGE
        )
        uids = [uid for uid in session.scalars(old) if is_selftest(uid)]
    removed = 0
    for uid in uids:
        with suppress(StillInWork):
            remove_study(records, archive, uid)
            removed += 1
    return removed


def _store(modality: Sender, node: Destination, study: SyntheticStudy) -> None:
    contexts = [(study.sop_class_uid, [study.transfer_syntax_uid])]
    with modality.associate(node, contexts) as connection:
        connection.store(study.path)


def _newest_analysis(session: Session, study_instance_uid: str) -> Analysis | None:
    return session.scalars(
        select(Analysis)
        .join(Study, Study.id == Analysis.study_id)
        .where(Study.study_instance_uid == study_instance_uid, Analysis.counts)
        .order_by(Analysis.id.desc())
        .limit(1)
        .options(selectinload(Analysis.results))
    ).first()


def _deliveries(session: Session, study_instance_uid: str) -> list[Delivery]:
    return list(
        session.scalars(
            select(Delivery)
            .join(Result, Result.id == Delivery.result_id)
            .join(Analysis, Analysis.id == Result.analysis_id)
            .join(Study, Study.id == Analysis.study_id)
            .where(Study.study_instance_uid == study_instance_uid)
            .options(joinedload(Delivery.result))
        )
    )


def _why_waiting(analysis: Analysis | None) -> str:
    if analysis is None:
        return "there is no analysis"
    error = f"; last error: {analysis.error}" if analysis.error else ""
    if analysis.state == AnalysisState.RUNNING:
        return f"it still runs, attempt {analysis.attempt}{error}"
    tried = f" again after attempt {analysis.attempt}" if analysis.attempt else ""
    return f"it is queued{tried}: no analysis worker has taken it up{error}"


def _seconds(begun: datetime, ended: datetime) -> float:
    return (ended - begun).total_seconds()
