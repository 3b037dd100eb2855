"""Analyses as work: claiming them, keeping the claim, and giving it back.

A claim is the row's state ``running``, its ``attempt`` number, and a lease that ends at ``not_before``.
Whoever lets the lease end loses the row to the next claim, and with it the right to write.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import and_, bindparam, func, select, update
from sqlalchemy.orm import Session

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
    return claim_first(records, questions, limit=limit, lease=lease, retry=retry)


def claim_first(
    records: Records,
    questions: Iterable[tuple[Priority, str, str]],
    *,
    limit: int,
    lease: timedelta,
    retry: Retry,
) -> list[Claim]:
    """Claims up to ``limit`` analyses of one priority and model: of the first question that has some due.

    One that has failed before is claimed alone: it may be what brought its batch down. One that has failed
    too often is quarantined.

    Args:
        records: Where from.
        questions: Priority, and id and version of a model.
        limit: How many at most.
        lease: How long they are ours.
        retry: When to try again, and how often.
    """
    now = utc_now()
    with records.writing() as session:
        any_left = session.scalar(_LEFT, {"now": now}) is not None
        for priority, model_id, model_version in questions:
            due = {"now": now, "urgency": priority, "model": model_id, "version": model_version}
            if rows := _oldest_due(session, due, limit, any_left):
                begun = [row for row in rows if _begin(row, now, lease, retry)]
                session.flush()
                return claims_of(session, begun)
    return []


# One state a query: only then does the index give them in their order. Written once and not for each claim:
# putting a statement together costs as much as running it.
_OLDEST: Final = (
    select(Analysis)
    .where(
        Analysis.state == bindparam("in_state"),
        Analysis.not_before <= bindparam("now"),
        Analysis.priority == bindparam("urgency"),
        Analysis.model_id == bindparam("model"),
        Analysis.model_version == bindparam("version"),
    )
    .order_by(Analysis.not_before, Analysis.id)
    .limit(bindparam("most"))
    .with_for_update(skip_locked=True)
)
_LEFT: Final = (
    select(Analysis.id)
    .where(Analysis.state == AnalysisState.RUNNING, Analysis.not_before <= bindparam("now"))
    .order_by(Analysis.not_before)
    .limit(1)
)
"""Whether any analysis was left running by a worker whose lease has ended: seldom. Asked in the order of the
index: of what only is to exist, PostgreSQL expects to meet one soon, and goes through the whole table."""


def _oldest_due(
    session: Session, due: Mapping[str, object], limit: int, any_left: bool
) -> Sequence[Analysis]:
    """Those to claim together: one that was left running, or failed before, comes alone."""
    if any_left:
        values = {**due, "in_state": AnalysisState.RUNNING, "most": 1}
        if left := session.scalars(_OLDEST, values).first():
            return [left]
    values = {**due, "in_state": AnalysisState.QUEUED, "most": limit}
    queued = session.scalars(_OLDEST, values).all()
    alone = bool(queued) and queued[0].failures
    return queued[:1] if alone else [row for row in queued if not row.failures]


def _begin(row: Analysis, now: datetime, lease: timedelta, retry: Retry) -> bool:
    """Begins an attempt, or quarantines the row where there were enough."""
    if row.state == AnalysisState.RUNNING:
        # Its lease ended without a word: the worker was killed, by this analysis for all we know.
        row.failures += 1
        row.error = f"no worker finished it in {row.attempt} attempts"
    if row.failures >= retry.maximum_attempts:
        row.state, row.finished_at = AnalysisState.FAILED, now
        return False
    row.state, row.started_at = AnalysisState.RUNNING, now
    row.attempt += 1
    row.not_before = now + lease
    return True


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
