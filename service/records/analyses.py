"""Analyses as work: claiming them, keeping the claim, and giving it back.

A claim is the row's state ``running``, its ``attempt`` number, and a lease that ends at ``not_before``.
Whoever lets the lease end loses the row to the next claim, and with it the right to write.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, and_, bindparam, func, select, update
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import set_committed_value

from service.records.claims import Claim, claims_of
from service.records.database import Records, utc_now
from service.records.lease import write_while_held
from service.records.retry import Retry
from service.records.states import WAITING, AnalysisState, Priority
from service.records.tables import Analysis


def claim(
    records: Records,
    *,
    model_id: str,
    model_version: str,
    limit: int,
    lease: timedelta,
    retry: Retry,
    first: Priority = Priority.STAT,
) -> list[Claim]:
    """Claims up to ``limit`` analyses of one model that are due: of one priority, the oldest of it first.

    Args:
        records: Where from.
        model_id: The model.
        model_version: Of its weights.
        limit: How many at most.
        lease: How long they are ours.
        retry: When to try again, and how often.
        first: The priority that is asked first, before all others in their order.
    """
    priorities = (first, *(other for other in Priority if other is not first))
    questions = [(priority, model_id, model_version) for priority in priorities]
    with records.writing() as session:
        return list(claim_first(session, questions, limit=limit, lease=lease, retry=retry).claims)


@dataclass(frozen=True, slots=True)
class Claimed:
    """What was claimed at once.

    Attributes:
        any_more: Whether others may have been due as well.
    """

    claims: Sequence[Claim] = ()
    any_more: bool = False


def claim_first(
    session: Session,
    questions: Iterable[tuple[Priority, str, str]],
    *,
    limit: int,
    lease: timedelta,
    retry: Retry,
) -> Claimed:
    """Claims up to ``limit`` analyses of one priority and model: of the first question that has some due.

    One that has failed before is claimed alone: it may be what brought its batch down. One that has failed
    too often is quarantined.

    Args:
        session: Of a writing transaction; the claims hold when it is over.
        questions: Priority, and id and version of a model.
        limit: How many at most.
        lease: How long they are ours.
        retry: When to try again, and how often.
    """
    now = utc_now()
    any_left, asked = _worth_asking(session, questions, now)
    for number, due in enumerate(asked, start=1):
        if found := _oldest_due(session, due, limit, any_left):
            rows = _together(found)
            any_more = any_left or len(found) == limit or len(rows) < len(found) or number < len(asked)
            return Claimed(claims_of(session, _begin(session, rows, now, lease, retry)), any_more)
    return Claimed()


def _asks(which: int | str = "") -> tuple[ColumnElement[bool], ...]:
    """What a question asks, by the names of its parameters."""
    return (
        Analysis.priority == bindparam(f"urgency{which}"),
        Analysis.model_id == bindparam(f"model{which}"),
        Analysis.model_version == bindparam(f"version{which}"),
    )


# One state a query: only then does the index give them in their order. Written once and not for each claim:
# putting a statement together costs as much as running it.
_OLDEST: Final = (
    select(Analysis)
    .where(
        Analysis.state == bindparam("in_state"),
        Analysis.not_before <= bindparam("now"),
        *_asks(),
    )
    .order_by(Analysis.not_before, Analysis.id)
    .limit(bindparam("most"))
    .with_for_update(skip_locked=True)
)
_LEFT: Final = (
    select(Analysis.not_before)
    .where(Analysis.state == AnalysisState.RUNNING, Analysis.not_before <= bindparam("now"))
    .order_by(Analysis.not_before)
    .limit(1)
    .scalar_subquery()
)
"""The end of the first lease that a worker has let go by: seldom any. The index of states has no more."""


@cache
def _look(questions: int) -> Select[Any]:
    """What was left, and what is due first of so many questions.

    Each part is asked in the order of its index: of what only is to exist, PostgreSQL expects to meet one
    soon, and goes through the whole table.
    """
    firsts: list[Any] = [
        select(Analysis.id)
        .where(
            Analysis.state == AnalysisState.QUEUED, Analysis.not_before <= bindparam("now"), *_asks(number)
        )
        .order_by(Analysis.not_before, Analysis.id)
        .limit(1)
        .scalar_subquery()
        for number in range(questions)
    ]
    return select(_LEFT, *firsts)


def _worth_asking(
    session: Session, questions: Iterable[tuple[Priority, str, str]], now: datetime
) -> tuple[bool, list[dict[str, object]]]:
    """Whether any analysis was left running, and the questions that have some due, in their order.

    Seldom has more than one, and mostly none has: so much is one statement, whatever there is to ask.
    """
    named = [
        {"now": now, "urgency": priority, "model": model_id, "version": version}
        for priority, model_id, version in questions
    ]
    values = {f"{key}{at}": value for at, one in enumerate(named) for key, value in one.items()}
    left, *first = session.execute(_look(len(named)), {**values, "now": now}).one()
    any_left = left is not None
    return any_left, [one for one, due in zip(named, first, strict=True) if any_left or due is not None]


def _oldest_due(
    session: Session, due: Mapping[str, object], limit: int, any_left: bool
) -> Sequence[Analysis]:
    """The oldest ones; one that was left running comes first, and alone."""
    if any_left:
        values = {**due, "in_state": AnalysisState.RUNNING, "most": 1}
        if left := session.scalars(_OLDEST, values).first():
            return [left]
    values = {**due, "in_state": AnalysisState.QUEUED, "most": limit}
    return session.scalars(_OLDEST, values).all()


def _together(rows: Sequence[Analysis]) -> Sequence[Analysis]:
    """Those to claim together: one that has failed before comes alone."""
    return rows[:1] if rows[0].failures else [row for row in rows if not row.failures]


_ANALYSES: Any = Analysis.__table__
_BEGIN: Final = (
    update(_ANALYSES)
    .where(_ANALYSES.c.id.in_(bindparam("those", expanding=True)))
    .values(
        state=AnalysisState.RUNNING,
        attempt=_ANALYSES.c.attempt + 1,
        not_before=bindparam("until"),
        started_at=bindparam("now"),
    )
)


def _begin(
    session: Session, rows: Sequence[Analysis], now: datetime, lease: timedelta, retry: Retry
) -> Sequence[Analysis]:
    """Begins an attempt at each; one that failed often enough is quarantined. Who has failed is alone."""
    first = rows[0]
    if first.state == AnalysisState.RUNNING:
        # Its lease ended without a word: the worker was killed, by this analysis for all we know.
        first.failures += 1
        first.error = f"no worker finished it in {first.attempt} attempts"
    if first.failures >= retry.maximum_attempts:
        first.state, first.finished_at = AnalysisState.FAILED, now
        return ()
    session.flush()
    session.execute(_BEGIN, {"those": [row.id for row in rows], "now": now, "until": now + lease})
    for row in rows:  # as they stand in the records now
        set_committed_value(row, "attempt", row.attempt + 1)
        set_committed_value(row, "started_at", now)
    return rows


def count_due(session: Session) -> int:
    """How many analyses wait for a worker now."""
    return session.scalar(select(func.count()).select_from(Analysis).where(_is_due())) or 0


def renew(records: Records, claim: Claim, lease: timedelta) -> None:
    """Keeps a claim for another lease.

    Raises:
        LeaseLost: If it is not ours any more.
    """
    with records.writing() as session:
        _write(session, claim, not_before=utc_now() + lease)


def postpone(records: Records, claim: Claim, error: str, retry: Retry) -> None:
    """Puts an analysis back until what it needs is there again; that is no fault of its own.

    Raises:
        LeaseLost: If the claim is not ours any more.
    """
    with records.writing() as session:
        _requeue(session, claim, retry, error=error)


def fail(records: Records, claim: Claim, error: str, *, again: bool, retry: Retry) -> None:
    """Puts an analysis back for another attempt, or quarantines it with its error.

    Raises:
        LeaseLost: If the claim is not ours any more.
    """
    failures = claim.failures + 1
    with records.writing() as session:
        if again and failures < retry.maximum_attempts:
            _requeue(session, claim, retry, error=error, failures=failures)
        else:
            values = {"state": AnalysisState.FAILED, "error": error, "failures": failures}
            _write(session, claim, **values, finished_at=utc_now())


def _requeue(session: Session, claim: Claim, retry: Retry, **values: object) -> None:
    due = utc_now() + retry.wait(claim.attempt)
    _write(session, claim, state=AnalysisState.QUEUED, not_before=due, **values)


def _is_due() -> Any:
    return and_(Analysis.state.in_(WAITING), Analysis.not_before <= utc_now())


def _write(session: Session, claim: Claim, **values: object) -> None:
    ours = (
        Analysis.id == claim.analysis_id,
        Analysis.attempt == claim.attempt,
        Analysis.state == AnalysisState.RUNNING,
    )
    write_while_held(session, update(Analysis).where(*ours).values(**values), claim.lost)
