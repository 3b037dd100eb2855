"""Numbers of the present moment: today's studies, what waits for a worker, each destination and webhook."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import func, select, union_all
from sqlalchemy.orm import Session

from service.records import peers_seen
from service.records.peers_seen import Seen
from service.records.selection import newest_analysis
from service.records.states import (
    WAITING,
    AnalysisState,
    CallState,
    DeliveryState,
    PeerKind,
    Priority,
    StudyState,
)
from service.records.tables import Analysis, Delivery, Instance, Result, Study, WebhookCall
from service.records.webhook_calls import UNANSWERED

_LOOKED_AT: Final = 100
"""Of those that wait: what was tried waits longer than what was not, and stands before it."""


@dataclass(frozen=True, slots=True)
class QueueLine:
    """The analyses of one priority that wait or run; ``oldest`` is when the oldest of them was asked for."""

    priority: Priority
    queued: int
    running: int
    oldest: datetime


@dataclass(frozen=True, slots=True)
class DestinationLine:
    """What goes to one destination.

    Attributes:
        destination: ``AET@HOST:PORT``.
        waiting, refused: Results and images that are due, and that it refused for good.
        oldest: When the oldest of those that are due was made, or came.
        seen: Whether it is up.
        last_delivered: When it last took one.
        last_error: What is written at what was tried last of those that wait or were refused.
    """

    destination: str
    waiting: int
    refused: int
    oldest: datetime | None
    seen: Seen
    last_delivered: datetime | None
    last_error: str


@dataclass(frozen=True, slots=True)
class WebhookLine:
    """What one webhook is told.

    Attributes:
        webhook: Its name in the settings.
        waiting, refused: Calls that are due, and that it refused for good, or never answered.
        oldest: When the oldest of those that are due was asked for.
        seen: Whether it is up.
    """

    webhook: str
    waiting: int
    refused: int
    oldest: datetime | None
    seen: Seen


def today(session: Session, midnight: datetime) -> dict[str, int]:
    """How many studies were received since ``midnight``, by the state of their newest analysis."""
    # Asked study by study: PostgreSQL would make a join of it, and go through all analyses on a busy day.
    newest = select(Analysis.state).where(Analysis.id == newest_analysis()).correlate(Study)
    states = (
        select(newest.scalar_subquery().label("state")).where(Study.receiving_since >= midnight).subquery()
    )
    rows = session.execute(select(states.c.state, func.count()).group_by(states.c.state))
    return {row[0] or StudyState.RECEIVING.value: row[1] for row in rows}


def queue(session: Session) -> list[QueueLine]:
    """What waits for an analysis worker, the most urgent first."""
    rows = session.execute(
        select(Analysis.priority, Analysis.state, func.count(), func.min(Analysis.created_at))
        .where(Analysis.state.in_(WAITING))
        .group_by(Analysis.priority, Analysis.state)
    )
    by_priority: dict[int, list[Any]] = {}
    for row in rows:
        by_priority.setdefault(row.priority, []).append(row)
    return [_queue_line(Priority(priority), by_priority[priority]) for priority in sorted(by_priority)]


def _queue_line(priority: Priority, rows: list[Any]) -> QueueLine:
    counts = {row[1]: row[2] for row in rows}
    return QueueLine(
        priority,
        queued=counts.get(AnalysisState.QUEUED, 0),
        running=counts.get(AnalysisState.RUNNING, 0),
        oldest=min(row[3] for row in rows),
    )


def destinations(session: Session, configured: tuple[str, ...]) -> list[DestinationLine]:
    """Each destination that is set up, and others to which something still has to go."""
    waiting, oldest = _due(session)
    seen = peers_seen.seen(session, PeerKind.DESTINATION)
    refused = by_destination(session, DeliveryState.REFUSED)
    names = dict.fromkeys((*configured, *sorted({*waiting, *refused})))
    return [
        DestinationLine(
            name,
            waiting.get(name, 0),
            refused.get(name, 0),
            oldest.get(name),
            seen.get(name, Seen()),
            last_delivered=_last_delivered(session, name),
            last_error=_last_error(session, name),
        )
        for name in names
    ]


def _due(session: Session) -> tuple[dict[str, int], dict[str, datetime]]:
    """How much is due, and since when the oldest of it is there, by destination.

    The oldest is the one with the least number: nothing but an index is gone through for it.
    """
    counted = session.execute(
        select(Delivery.destination, func.count(), func.min(Delivery.id))
        .where(Delivery.state == DeliveryState.DUE)
        .group_by(Delivery.destination)
    ).all()
    made = session.execute(
        select(Delivery.destination, func.coalesce(Result.created_at, Instance.received_at))
        .outerjoin(Result, Result.id == Delivery.result_id)
        .outerjoin(Instance, Instance.id == Delivery.instance_id)
        .where(Delivery.id.in_([row[2] for row in counted]))
    )
    return {row[0]: row[1] for row in counted}, {row[0]: row[1] for row in made}


def webhooks(session: Session, configured: tuple[str, ...]) -> list[WebhookLine]:
    """Each webhook that is set up, and others of which a call still waits or was refused."""
    rows = session.execute(
        select(WebhookCall.webhook, WebhookCall.state, func.count(), func.min(WebhookCall.created_at))
        .where(WebhookCall.state.in_(UNANSWERED))
        .group_by(WebhookCall.webhook, WebhookCall.state)
    ).all()
    waiting = {row[0]: row for row in rows if row[1] == CallState.DUE}
    refused = {row[0]: row[2] for row in rows if row[1] == CallState.REFUSED}
    seen: Mapping[str, Seen] = peers_seen.seen(session, PeerKind.WEBHOOK)
    return [
        WebhookLine(
            name,
            waiting[name][2] if name in waiting else 0,
            refused.get(name, 0),
            waiting[name][3] if name in waiting else None,
            seen.get(name, Seen()),
        )
        for name in dict.fromkeys((*configured, *sorted({*waiting, *refused})))
    ]


def by_destination(session: Session, state: DeliveryState) -> dict[str, int]:
    """How many results and images are in that state, by destination; one that has none is left out."""
    rows = session.execute(
        select(Delivery.destination, func.count())
        .where(Delivery.state == state)
        .group_by(Delivery.destination)
    )
    return {row[0]: row[1] for row in rows}


def _last_delivered(session: Session, destination: str) -> datetime | None:
    last: datetime | None = session.scalar(
        select(func.max(Delivery.sent_at)).where(Delivery.destination == destination)
    )
    return last


def _last_error(session: Session, destination: str) -> str:
    """Of those that were tried last, which stand at an end of the index, however many wait behind them."""
    ends = [
        select(Delivery.error, Delivery.not_before, Delivery.id)
        .where(Delivery.state == state, Delivery.destination == destination, Delivery.priority == priority)
        .order_by(Delivery.not_before.desc(), Delivery.id.desc())
        .limit(_LOOKED_AT)
        .subquery()
        for state in (DeliveryState.DUE, DeliveryState.REFUSED)
        for priority in Priority
    ]
    tried = union_all(*(select(end).where(end.c.error != "") for end in ends))
    last = tried.subquery()
    return (
        session.scalar(select(last.c.error).order_by(last.c.not_before.desc(), last.c.id.desc()).limit(1))
        or ""
    )
