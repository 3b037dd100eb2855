"""Actions on analyses: once more with a model, out of quarantine, off the queue, complete now."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Self

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from litegpt.identity import ModelIdentity
from service.actions.action import Tally
from service.completion import Completion, input_digest, kept, to_be_read
from service.models.roster import KnownModel
from service.records import webhook_calls
from service.records.database import utc_now
from service.records.forwarding import withdraw_forwards
from service.records.states import WAITING, AnalysisState, DeliveryState, Priority, Purpose, StudyState
from service.records.succession import (
    FOR_PATIENTS,
    GIVEN_UP,
    bring_back,
    count_as_newest,
    queue_again,
    supersede,
)
from service.records.tables import Analysis, Delivery, Instance, Result, Study
from service.rules.rule import StudyRule


@dataclass(frozen=True, slots=True)
class Rerun:
    """Has a model read studies that it has not read as they are now.

    Attributes:
        completion: The node's rules.
        priority: How soon.
        model: Who reads, if not the active one.
        purpose: Why by that one.
    """

    name: ClassVar[str] = "rerun"
    completion: Completion
    priority: Priority = Priority.BACKLOG
    model: ModelIdentity | None = None
    purpose: Purpose = Purpose.REGULAR

    @classmethod
    def by(cls, model: KnownModel, completion: Completion, priority: Priority) -> Self:
        """By a model that somebody has named; for nobody, where it is the shadow."""
        return cls(completion, priority, model.identity, model.purpose)

    @property
    def reader(self) -> ModelIdentity:
        """Who reads."""
        return self.model or self.completion.model

    def options(self) -> dict[str, Any]:
        """How it is asked."""
        beside = {"shadow": True} if self.purpose is Purpose.SHADOW else {}
        return {"priority": str(self.priority), "model": f"{self.reader.id} {self.reader.version}", **beside}

    def apply(self, session: Session, study_ids: Sequence[int]) -> Tally:
        """Queues analyses; what the model has read, or is about to, stays as it is."""
        now, tally, fresh = utc_now(), Counter[str](), []
        studies = lock_studies(session, study_ids)
        twins = self._twins(session, study_ids)
        newest = {row.id for row in newest_analyses(session, study_ids)}
        images = _by_study(session.scalars(to_be_read(study_ids)))
        for study in studies:
            meant = images[study.id]
            there = kept(meant)
            rule = self.completion.rule_of(meant)
            twin = _twin(twins, study, meant, there)
            if study.state == StudyState.RECEIVING:
                tally["still receiving"] += 1
            elif not meant:
                tally["nothing to analyse"] += 1
            elif not rule.analyse:
                tally[f"left out by the rule {rule.name!r}"] += 1
            elif twin:
                tally[self._once_more(session, twin, now, twin.id in newest)] += 1
            elif not there:
                tally["images were purged: they must come again first"] += 1
            else:
                tally["queued"] += 1
                fresh.append(self._fresh(study.id, there, now, rule))
        supersede(session, [analysis.study_id for analysis in fresh], self.reader, self._replaced)
        session.add_all(fresh)
        return tally

    def _fresh(self, study_id: int, images: Sequence[Instance], now: datetime, rule: StudyRule) -> Analysis:
        analysis = self.completion.analysis_of(
            study_id, images, now, self.priority, rule, model=self.reader, purpose=self.purpose
        )
        analysis.priority = self.priority  # asked for by name, whatever the rule says
        return analysis

    @property
    def _replaced(self) -> Sequence[Purpose]:
        """What it may end: what is asked for by a name holds nothing up that is due to a patient anyhow."""
        return FOR_PATIENTS if self.purpose is Purpose.REGULAR else (self.purpose,)

    def _twins(self, session: Session, study_ids: Sequence[int]) -> Mapping[tuple[int, str], Analysis]:
        """What there is by this model under the present rules, by study and input."""
        of_reader = (
            Analysis.model_id == self.reader.id,
            Analysis.model_version == self.reader.version,
            Analysis.settings_digest == self.completion.eligibility.digest,
        )
        rows = session.scalars(
            select(Analysis)
            .where(Analysis.study_id.in_(study_ids), *of_reader)
            .order_by(Analysis.id)
            .with_for_update()
        )
        return {(row.study_id, row.input_digest): row for row in rows}

    def _once_more(self, session: Session, twin: Analysis, now: datetime, newest: bool) -> str:
        if self._begins_anew(twin, newest):
            supersede(session, [twin.study_id], self.reader, self._replaced, other_than=twin)
            queue_again(session, twin, now, self.purpose)
            twin.priority = self.priority
            if self.purpose is not Purpose.SHADOW:
                count_as_newest(session, twin)
            return "queued"
        if twin.state == AnalysisState.QUEUED and self.priority < twin.priority:
            twin.priority = self.priority
            return "moved up in the queue"
        if twin.state == AnalysisState.DONE and self.purpose is not Purpose.SHADOW and not newest:
            supersede(session, [twin.study_id], self.reader, self._replaced, other_than=twin)
            bring_back(session, twin)
            return "read by this model before: that counts again"
        return {
            AnalysisState.QUEUED: "queued already",
            AnalysisState.RUNNING: "running already",
            AnalysisState.FAILED: "in quarantine: retry takes it out",
        }.get(AnalysisState(twin.state), "read by this model already")

    def _begins_anew(self, twin: Analysis, newest: bool) -> bool:
        """Whether it is made once more: what came to no end, and what a shadow read for nobody."""
        if self.purpose is Purpose.SHADOW:
            ended_badly = twin.state in (*GIVEN_UP, AnalysisState.FAILED)
            return ended_badly and (twin.purpose == Purpose.SHADOW or not newest)
        if twin.purpose == Purpose.SHADOW or twin.state in GIVEN_UP:
            return True
        # `retry` takes the newest out of quarantine, and no other.
        return twin.state == AnalysisState.FAILED and not newest


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
            queue_again(session, row, now)
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
    if whole and (len(there) == len(meant) or whole.state not in GIVEN_UP):
        return whole
    return twins.get((study.id, input_digest(there))) if there else None


def newest_analyses(session: Session, study_ids: Sequence[int]) -> list[Analysis]:
    """Each study's newest analysis, locked."""
    of_studies = (Analysis.study_id.in_(study_ids), Analysis.counts)
    newest = select(func.max(Analysis.id)).where(*of_studies).group_by(Analysis.study_id)
    rows = select(Analysis).where(Analysis.id.in_(newest)).order_by(Analysis.id).with_for_update()
    return list(session.scalars(rows))


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
