"""Actions on analyses: once more with the present model, out of quarantine, off the queue, complete now."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service.actions.action import Tally
from service.completion import Completion, input_digest, kept, supersede, to_be_read
from service.records import webhook_calls
from service.records.database import utc_now
from service.records.forwarding import withdraw_forwards
from service.records.tables import (
    WAITING,
    Analysis,
    AnalysisState,
    Delivery,
    DeliveryState,
    Instance,
    Priority,
    Result,
    Study,
    StudyState,
)

_GIVEN_UP: Final = (AnalysisState.CANCELLED, AnalysisState.SUPERSEDED)


@dataclass(frozen=True, slots=True)
class Rerun:
    """Has the present model read studies that it has not read as they are now."""

    name: ClassVar[str] = "rerun"
    completion: Completion
    priority: Priority = Priority.BACKLOG

    def options(self) -> dict[str, Any]:
        """How it is asked."""
        model = self.completion.model
        return {"priority": str(self.priority), "model": f"{model.id} {model.version}"}

    def apply(self, session: Session, study_ids: Sequence[int]) -> Tally:
        """Queues analyses; what the model has read, or is about to, stays as it is."""
        now, tally, fresh = utc_now(), Counter[str](), []
        studies = lock_studies(session, study_ids)
        twins = self._twins(session, study_ids)
        images = _by_study(session.scalars(to_be_read(study_ids)))
        for study in studies:
            meant = images[study.id]
            there = kept(meant)
            twin = _twin(twins, study, meant, there)
            if study.state == StudyState.RECEIVING:
                tally["still receiving"] += 1
            elif not meant:
                tally["nothing to analyse"] += 1
            elif twin:
                tally[self._once_more(twin, now)] += 1
            elif not there:
                tally["images were purged: they must come again first"] += 1
            else:
                tally["queued"] += 1
                fresh.append(self.completion.analysis_of(study.id, there, now, self.priority))
        supersede(session, [analysis.study_id for analysis in fresh], self.completion.model)
        session.add_all(fresh)
        return tally

    def _twins(self, session: Session, study_ids: Sequence[int]) -> Mapping[tuple[int, str], Analysis]:
        """What there is by the present model under the present rules, by study and input."""
        of_present = (
            Analysis.model_id == self.completion.model.id,
            Analysis.model_version == self.completion.model.version,
            Analysis.settings_digest == self.completion.eligibility.digest,
        )
        rows = session.scalars(
            select(Analysis)
            .where(Analysis.study_id.in_(study_ids), *of_present)
            .order_by(Analysis.id)
            .with_for_update()
        )
        return {(row.study_id, row.input_digest): row for row in rows}

    def _once_more(self, twin: Analysis, now: datetime) -> str:
        if twin.state in _GIVEN_UP:
            _queue(twin, now)
            twin.priority = self.priority
            return "queued"
        if twin.state == AnalysisState.QUEUED and self.priority < twin.priority:
            twin.priority = self.priority
            return "moved up in the queue"
        return {
            AnalysisState.QUEUED: "queued already",
            AnalysisState.RUNNING: "running already",
            AnalysisState.FAILED: "in quarantine: retry takes it out",
        }.get(AnalysisState(twin.state), "read by this model already")


@dataclass(frozen=True, slots=True)
class Retry:
    """Takes studies out of quarantine, with all their attempts before them again."""

    name: ClassVar[str] = "retry"
    priority: Priority | None = None

    def options(self) -> dict[str, Any]:
        """How it is asked."""
        return {} if self.priority is None else {"priority": str(self.priority)}

    def apply(self, session: Session, study_ids: Sequence[int]) -> Tally:
        """Queues the newest analyses that have failed."""
        now, tally = utc_now(), Counter[str]()
        for row in newest_analyses(session, study_ids):
            if row.state != AnalysisState.FAILED:
                tally["not in quarantine"] += 1
                continue
            _queue(row, now)
            if self.priority is not None:
                row.priority = self.priority
            tally["queued"] += 1
        return tally


@dataclass(frozen=True, slots=True)
class Cancel:
    """Ends what is under way for studies: analyses that wait or run, and results that are due. Images and
    webhook calls go, too, where they were refused: nobody is to have them after all."""

    name: ClassVar[str] = "cancel"
    who: str = "an admin"

    def options(self) -> dict[str, Any]:
        """How it is asked."""
        return {}

    def apply(self, session: Session, study_ids: Sequence[int]) -> Tally:
        """Cancels analyses and withdraws deliveries; a worker that is at it finds its claim lost."""
        why = f"cancelled by {self.who}"
        ended = set()
        for analysis in session.scalars(
            select(Analysis)
            .where(Analysis.study_id.in_(study_ids), Analysis.state.in_(WAITING))
            .order_by(Analysis.id)
            .with_for_update()
        ):
            analysis.state, analysis.finished_at, analysis.error = AnalysisState.CANCELLED, utc_now(), why
            ended.add(analysis.study_id)
        # After the analyses: past a row that a worker is just finishing, we see the deliveries it made.
        due = session.execute(
            select(Delivery, Analysis.study_id)
            .join(Result, Result.id == Delivery.result_id)
            .join(Analysis, Analysis.id == Result.analysis_id)
            .where(Analysis.study_id.in_(study_ids), Delivery.state == DeliveryState.DUE)
            .order_by(Delivery.id)
            .with_for_update(of=Delivery)
        )
        for delivery, study_id in due:
            delivery.state, delivery.error = DeliveryState.WITHDRAWN, why
            ended.add(study_id)
        ended.update(withdraw_forwards(session, study_ids, why))
        ended.update(webhook_calls.studies_untold(session, study_ids))
        analyses = select(Analysis.id).where(Analysis.study_id.in_(study_ids))
        webhook_calls.withdraw(session, analyses, why, webhook_calls.UNANSWERED)
        left = len(study_ids) - len(ended)
        return +Counter({"cancelled": len(ended), "nothing under way": left})


@dataclass(frozen=True, slots=True)
class Force:
    """Completes studies that still receive."""

    name: ClassVar[str] = "force"
    completion: Completion

    def options(self) -> dict[str, Any]:
        """How it is asked."""
        return {}

    def apply(self, session: Session, study_ids: Sequence[int]) -> Tally:
        """Completes them now, whatever may still come."""
        tally: Tally = Counter()
        for study in lock_studies(session, study_ids):
            if study.state == StudyState.RECEIVING:
                self.completion.complete(session, study, utc_now())
                tally["complete"] += 1
            else:
                tally["complete already"] += 1
        return tally


def _twin(
    twins: Mapping[tuple[int, str], Analysis],
    study: Study,
    meant: Sequence[Instance],
    there: Sequence[Instance],
) -> Analysis | None:
    """What there is of a study's images; what there is of purged ones counts where it has come to its end."""
    whole = twins.get((study.id, input_digest(meant)))
    if whole and (len(there) == len(meant) or whole.state not in _GIVEN_UP):
        return whole
    return twins.get((study.id, input_digest(there))) if there else None


def newest_analyses(session: Session, study_ids: Sequence[int]) -> list[Analysis]:
    """Each study's newest analysis, locked."""
    newest = select(func.max(Analysis.id)).where(Analysis.study_id.in_(study_ids)).group_by(Analysis.study_id)
    rows = select(Analysis).where(Analysis.id.in_(newest)).order_by(Analysis.id).with_for_update()
    return list(session.scalars(rows))


def _queue(row: Analysis, now: datetime) -> None:
    row.state, row.failures, row.error = AnalysisState.QUEUED, 0, ""
    row.not_before, row.finished_at = now, None


def lock_studies(session: Session, study_ids: Sequence[int]) -> Iterable[Study]:
    """These studies, locked in one order."""
    return session.scalars(
        select(Study).where(Study.id.in_(study_ids)).order_by(Study.id).with_for_update()
    ).all()


def _by_study(images: Iterable[Instance]) -> Mapping[int, list[Instance]]:
    by_study: dict[int, list[Instance]] = defaultdict(list)
    for image in images:
        by_study[image.study_id].append(image)
    return by_study
