"""Where each study stands, as one SQL expression: settled, on its way, or stuck, in which state, since when.

A study is judged by its newest analysis, as ``overview`` does, and by the images that are to be passed on.
What is delivered, and waits for its destination to commit to it, is on its way, too.
While it receives, that the analysis failed or a destination refused something does not count: a newer one
follows.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    String,
    Subquery,
    and_,
    case,
    exists,
    func,
    literal,
    not_,
    or_,
    select,
    type_coerce,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import InstrumentedAttribute, aliased
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from service.records.commitments import AWAITED_BY_VALUE, uncommitted
from service.records.forwarding import UNFORWARDED, has_forward, unforwarded
from service.records.overview import Outcome
from service.records.states import (
    WAITING,
    AnalysisState,
    CallState,
    DeliveryState,
    InstanceState,
    Purpose,
    StudyState,
)
from service.records.tables import (
    Analysis,
    Delivery,
    Instance,
    Result,
    Study,
    UTCDateTime,
    WebhookCall,
)
from service.records.webhook_calls import UNANSWERED

IN_EARNEST: Final = Analysis.purpose != Purpose.SHADOW
"""Of analyses that a study waits for; a shadow's keep none from being settled."""


class Verdict(StrEnum):
    """Whether a study needs nothing more, is on its way, or needs a person."""

    SETTLED = "settled"
    OPEN = "open"
    STUCK = "stuck"


@dataclass(frozen=True, slots=True)
class Question:
    """Which studies are reconciled, and from what age on an open one is stuck.

    Attributes:
        now: The moment that ages are counted up to.
        older_than: An open study is stuck when it is older than this.
        since: Only studies whose last receiving period began then or later.
        until: Only studies whose last receiving period began then or earlier.
    """

    now: datetime
    older_than: timedelta
    since: datetime | None = None
    until: datetime | None = None

    def asks_for(self) -> list[ColumnElement[bool]]:
        """The conditions on ``Study``."""
        conditions = []
        if self.since is not None:
            conditions.append(Study.receiving_since >= self.since)
        if self.until is not None:
            conditions.append(Study.receiving_since <= self.until)
        return conditions


def newest_analyses(study_ids: Collection[int] | None = None) -> Subquery:
    """The id of each study's newest analysis, or of these studies'."""
    newest = select(Analysis.study_id, func.max(Analysis.id).label("id")).where(Analysis.counts)
    newest = newest.group_by(Analysis.study_id)
    if study_ids is not None:
        newest = newest.where(Analysis.study_id.in_(study_ids))
    return newest.subquery("newest")


def standing(question: Question) -> Subquery:
    """A row for each study: its ids, ``verdict``, ``state`` and ``since``."""
    facts = _Facts.gather()
    return (
        select(
            Study.id,
            Study.study_instance_uid,
            Study.accession_number,
            facts.verdict(question.now - question.older_than).label("verdict"),
            facts.state().label("state"),
            facts.since().label("since"),
        )
        .outerjoin(facts.newest, facts.newest.c.study_id == Study.id)
        .outerjoin(facts.current, facts.current.id == facts.newest.c.id)
        .outerjoin(facts.waiting, facts.waiting.c.study_id == Study.id)
        .outerjoin(facts.undelivered, facts.undelivered.c.study_id == Study.id)
        .outerjoin(facts.unforwarded, facts.unforwarded.c.study_id == Study.id)
        .outerjoin(facts.uncommitted, facts.uncommitted.c.study_id == Study.id)
        .outerjoin(facts.untold, facts.untold.c.study_id == Study.id)
        .outerjoin(facts.conflicts, facts.conflicts.c.study_id == Study.id)
        .where(*question.asks_for())
        .subquery("standing")
    )


def settled() -> ColumnElement[bool]:
    """Whether ``Study`` is settled, as ``standing`` judges; for a few studies, without sums over all."""
    one = aliased(Analysis)
    last = select(func.max(one.id)).where(one.study_id == Study.id, one.counts)
    newest = last.correlate(Study).scalar_subquery()
    in_order = (AnalysisState.DONE, AnalysisState.NOT_APPLICABLE, AnalysisState.CANCELLED)
    result_of = (Delivery.result_id == Result.id, Result.analysis_id == Analysis.id, IN_EARNEST)
    call_of = (WebhookCall.analysis_id == Analysis.id, IN_EARNEST)
    # Out of sight of SQLite's planner, which would go through all that is due for each study.
    delivery, told = func.coalesce(Delivery.state, ""), func.coalesce(WebhookCall.state, "")
    due, refused = DeliveryState.DUE.value, DeliveryState.REFUSED.value
    against = (
        exists().where(Instance.study_id == Study.id, Instance.state == InstanceState.CONFLICT),
        exists().where(Analysis.study_id == Study.id, Analysis.state.in_(WAITING), IN_EARNEST),
        exists().where(*result_of, Analysis.study_id == Study.id, delivery == due),
        exists().where(*result_of, Analysis.id == newest, delivery == refused),
        has_forward(delivery.in_([state.value for state in UNFORWARDED])),
        exists().where(*result_of, Analysis.study_id == Study.id, AWAITED_BY_VALUE),
        has_forward(AWAITED_BY_VALUE),
        exists().where(*call_of, Analysis.study_id == Study.id, told == CallState.DUE.value),
        exists().where(*call_of, Analysis.id == newest, told == CallState.REFUSED.value),
    )
    ended = exists().where(Analysis.id == newest, Analysis.state.in_(in_order))
    return and_(Study.state == StudyState.COMPLETE, ended, *(not_(reason) for reason in against))


@dataclass(frozen=True, slots=True)
class _Facts:
    """What there is beside a study's row, and the conditions that it is judged by."""

    newest: Subquery
    current: type[Analysis]
    waiting: Subquery
    undelivered: Subquery
    unforwarded: Subquery
    uncommitted: Subquery
    untold: Subquery
    conflicts: Subquery

    @classmethod
    def gather(cls) -> _Facts:
        current = aliased(Analysis, name="current")
        undelivered = (_undelivered(), unforwarded(), uncommitted(IN_EARNEST), _untold())
        return cls(newest_analyses(), current, _waiting(), *undelivered, _conflicts())

    @property
    def in_conflict(self) -> ColumnElement[bool]:
        return self.conflicts.c.since.is_not(None)

    @property
    def receives(self) -> ColumnElement[bool]:
        return or_(Study.state == StudyState.RECEIVING, self.newest.c.id.is_(None))

    @property
    def failed(self) -> ColumnElement[bool]:
        return and_(Study.state == StudyState.COMPLETE, self.current.state == AnalysisState.FAILED)

    @property
    def refused(self) -> ColumnElement[bool]:
        newest = self.undelivered.c.refused_id == self.newest.c.id
        image = self.unforwarded.c.refused == 1
        call = self.untold.c.refused_id == self.newest.c.id
        return and_(Study.state == StudyState.COMPLETE, or_(newest, image, call))

    @property
    def waits(self) -> ColumnElement[bool]:
        return self.waiting.c.since.is_not(None)

    @property
    def delivering(self) -> ColumnElement[bool]:
        return or_(*(since.is_not(None) for since in self._due_since))

    @property
    def on_its_way(self) -> ColumnElement[bool]:
        unanswered = self.current.state == AnalysisState.SUPERSEDED
        uncommitted = self.uncommitted.c.due_since.is_not(None)
        return or_(self.receives, unanswered, self.waits, self.delivering, uncommitted)

    @property
    def begun(self) -> ColumnElement[Any]:
        since = (self.waiting.c.since, *self._due_since, self.uncommitted.c.due_since)
        return _earliest(Study.receiving_since, *since)

    @property
    def _due_since(self) -> list[ColumnElement[Any]]:
        return [some.c.due_since for some in (self.undelivered, self.unforwarded, self.untold)]

    def state(self) -> ColumnElement[str]:
        """Where it stands, in the words of ``overview``; the first that is true."""
        current = self.current.state
        delivered = and_(current == AnalysisState.DONE, _has_deliveries(self.current))
        return case(
            (self.in_conflict, _word(InstanceState.CONFLICT)),
            (self.receives, _word(StudyState.RECEIVING)),
            (self.failed, _word(AnalysisState.FAILED)),
            (current.in_((*WAITING, AnalysisState.SUPERSEDED)), current),
            (self.waits, _word(AnalysisState.QUEUED)),
            (self.refused, _word(Outcome.REFUSED)),
            (self.delivering, _word(Outcome.DELIVERING)),
            (delivered, _word(Outcome.DELIVERED)),
            else_=current,
        )

    def verdict(self, oldest: datetime) -> ColumnElement[str]:
        """What it needs; what is open and began before ``oldest`` is stuck."""
        overdue = and_(self.on_its_way, self.begun < oldest)
        return case(
            (or_(self.in_conflict, self.failed, self.refused, overdue), _word(Verdict.STUCK)),
            (self.on_its_way, _word(Verdict.OPEN)),
            else_=_word(Verdict.SETTLED),
        )

    def since(self) -> ColumnElement[Any]:
        """Since when it is not settled: since it was received, where it is not a conflict alone."""
        unsettled = or_(self.failed, self.refused, self.on_its_way)
        conflict = self.conflicts.c.since
        return case((unsettled, _earliest(self.begun, conflict)), else_=conflict)


def _waiting() -> Subquery:
    waiting = select(Analysis.study_id, func.min(Analysis.created_at).label("since"))
    return (
        waiting.where(Analysis.state.in_(WAITING), IN_EARNEST).group_by(Analysis.study_id).subquery("waiting")
    )


def _undelivered() -> Subquery:
    """Since when a study has results that are due, and the newest analysis of which one was refused."""
    due_since = func.min(case((Delivery.state == DeliveryState.DUE, Result.created_at)))
    refused = (Delivery.state == DeliveryState.REFUSED) & Analysis.counts
    refused_id = func.max(case((refused, Analysis.id)))
    return (
        select(Analysis.study_id, due_since.label("due_since"), refused_id.label("refused_id"))
        .join(Result, Result.analysis_id == Analysis.id)
        .join(Delivery, Delivery.result_id == Result.id)
        .where(Delivery.state.in_((DeliveryState.DUE, DeliveryState.REFUSED)), IN_EARNEST)
        .group_by(Analysis.study_id)
        .subquery("undelivered")
    )


def _untold() -> Subquery:
    """The same of webhook calls."""
    due_since = func.min(case((WebhookCall.state == CallState.DUE, WebhookCall.created_at)))
    refused_id = func.max(case((WebhookCall.state == CallState.REFUSED, Analysis.id)))
    return (
        select(Analysis.study_id, due_since.label("due_since"), refused_id.label("refused_id"))
        .join(WebhookCall, WebhookCall.analysis_id == Analysis.id)
        .where(WebhookCall.state.in_(UNANSWERED))
        .group_by(Analysis.study_id)
        .subquery("untold")
    )


def _conflicts() -> Subquery:
    conflicts = select(Instance.study_id, func.min(Instance.received_at).label("since"))
    held = conflicts.where(Instance.state == InstanceState.CONFLICT)
    return held.group_by(Instance.study_id).subquery("conflict")


def _has_deliveries(current: Any) -> ColumnElement[bool]:
    return exists().where(Result.analysis_id == current.id, Delivery.result_id == Result.id)


class _Least(FunctionElement[Any]):
    """The least of some values, none of them missing; PostgreSQL and SQLite call that by different names."""

    inherit_cache = True


@compiles(_Least)
def _least(element: _Least, compiler: SQLCompiler, **others: Any) -> str:
    name = "min" if compiler.dialect.name == "sqlite" else "least"
    return f"{name}({compiler.process(element.clauses, **others)})"


def _earliest(one: ColumnElement[Any] | InstrumentedAttribute[datetime], *others: Any) -> ColumnElement[Any]:
    """The earliest of some times, of which all but the first may be missing.

    Each stands in the statement twice at most: nested comparisons would double it with each of them, and
    PostgreSQL compile it for longer than it computes.
    """
    return type_coerce(_Least(one, *(func.coalesce(other, one) for other in others)), UTCDateTime())


def _word(word: StrEnum) -> ColumnElement[str]:
    return literal(word.value, String())
