"""Attempts at deliveries and at webhook calls: how each ended, written in the transaction that records it.

A destination that is away for days makes no thousand rows: failures in a row that are alike are one, and of
one delivery the last ``KEPT`` rows stay. An attempt whose worker was killed, or lost its claim, has none.
"""

from __future__ import annotations

import os
import socket
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, cast

from sqlalchemy import ColumnElement, CursorResult, bindparam, delete, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from service.records.database import utc_now
from service.records.states import AttemptOutcome
from service.records.tables import Analysis, Delivery, DeliveryAttempt, Instance, Result, WebhookCall

KEPT: Final = 50
_LONGEST: Final = 500


@dataclass(frozen=True, slots=True)
class Ended:
    """How an attempt ended.

    Attributes:
        said: The status that came, or why none did.
        seconds: How long it took, where that was measured.
    """

    outcome: AttemptOutcome
    said: str = ""
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt as it is shown, or ``count`` of them in a row that ended alike.

    Attributes:
        attempt: The number of the last of them.
        said: The status that came, or why none did, in one line.
        seconds: How long the last of them took, where that was measured.
        worker: Who made the last of them: ``HOST/PID``.
    """

    attempt: int
    count: int
    outcome: str
    said: str
    seconds: float | None
    worker: str
    first_at: datetime
    last_at: datetime


Attempts = tuple[Attempt, ...]


@dataclass(frozen=True, slots=True)
class History:
    """The attempts of some deliveries and webhook calls, the first ones first, by their ids."""

    deliveries: Mapping[int, Attempts] = field(default_factory=dict)
    calls: Mapping[int, Attempts] = field(default_factory=dict)

    def of_delivery(self, delivery_id: int) -> Attempts:
        """Those of a delivery."""
        return self.deliveries.get(delivery_id, ())

    def of_call(self, call_id: int) -> Attempts:
        """Those of a webhook call."""
        return self.calls.get(call_id, ())


def note_delivery(session: Session, delivery_id: int, number: int, ended: Ended) -> None:
    """Writes down how an attempt at a delivery ended; its row is locked."""
    _note(session, DeliveryAttempt.delivery_id, delivery_id, number, ended)


def note_call(session: Session, call_id: int, number: int, ended: Ended) -> None:
    """Writes down how an attempt at a webhook call ended; its row is locked."""
    _note(session, DeliveryAttempt.webhook_call_id, call_id, number, ended)


_NEWEST: Final = {
    column: select(DeliveryAttempt)
    .where(column == bindparam("of"))
    .order_by(DeliveryAttempt.id.desc())
    .limit(1)
    for column in (DeliveryAttempt.delivery_id, DeliveryAttempt.webhook_call_id)
}
"""Written once and not for each attempt."""


def _note(
    session: Session, column: InstrumentedAttribute[int | None], of: int, number: int, ended: Ended
) -> None:
    last = session.scalars(_NEWEST[column], {"of": of}).one_or_none()
    now, said = utc_now(), " ".join(ended.said.split())[:_LONGEST]
    row = last
    if row is None or (row.outcome, row.said) != (ended.outcome, said) or row.outcome == AttemptOutcome.SENT:
        row = DeliveryAttempt(**{column.key: of}, count=0, outcome=ended.outcome, said=said, first_at=now)
        session.add(row)
    row.count += 1
    row.attempt, row.seconds, row.last_at = number, ended.seconds, now
    row.worker = f"{socket.gethostname()}/{os.getpid()}"
    session.flush()
    if last is not None and row is not last:
        oldest_kept = (
            select(DeliveryAttempt.id).where(column == of).order_by(DeliveryAttempt.id.desc())
        ).offset(KEPT - 1)
        too_old = DeliveryAttempt.id < oldest_kept.limit(1).scalar_subquery()
        session.execute(_deletion(column == of, too_old))


def history_of(session: Session, delivery_ids: Collection[int], call_ids: Collection[int]) -> History:
    """All attempts at these deliveries and webhook calls."""
    return History(
        _attempts(session, DeliveryAttempt.delivery_id, delivery_ids),
        _attempts(session, DeliveryAttempt.webhook_call_id, call_ids),
    )


def _attempts(
    session: Session, column: InstrumentedAttribute[int | None], ids: Collection[int]
) -> Mapping[int, Attempts]:
    if not ids:
        return {}
    rows = session.scalars(select(DeliveryAttempt).where(column.in_(ids)).order_by(DeliveryAttempt.id))
    by_id: dict[int, list[DeliveryAttempt]] = defaultdict(list)
    for row in rows:
        by_id[getattr(row, column.key)].append(row)
    return {key: tuple(map(_attempt, of)) for key, of in by_id.items()}


def _attempt(row: DeliveryAttempt) -> Attempt:
    return Attempt(
        attempt=row.attempt,
        count=row.count,
        outcome=row.outcome,
        said=row.said,
        seconds=row.seconds,
        worker=row.worker,
        first_at=row.first_at,
        last_at=row.last_at,
    )


def forget(session: Session, study_ids: Sequence[int]) -> int:
    """Removes the attempts of studies; that something was sent, and when, stays with its delivery.

    Returns:
        How many rows they were.
    """
    analyses = select(Analysis.id).where(Analysis.study_id.in_(study_ids))
    results = select(Result.id).where(Result.analysis_id.in_(analyses))
    images = select(Instance.id).where(Instance.study_id.in_(study_ids))
    deliveries = select(Delivery.id).where(
        or_(Delivery.result_id.in_(results), Delivery.instance_id.in_(images))
    )
    calls = select(WebhookCall.id).where(WebhookCall.analysis_id.in_(analyses))
    of_both = (DeliveryAttempt.delivery_id.in_(deliveries), DeliveryAttempt.webhook_call_id.in_(calls))
    done = [session.execute(_deletion(condition)) for condition in of_both]
    return sum(cast("CursorResult[Any]", one).rowcount for one in done)


def _deletion(*conditions: ColumnElement[bool]) -> Any:
    return delete(DeliveryAttempt).where(*conditions).execution_options(synchronize_session=False)


def failures(attempts: Iterable[Attempt]) -> list[Attempt]:
    """Those after which nothing had arrived."""
    return [one for one in attempts if one.outcome != AttemptOutcome.SENT]
