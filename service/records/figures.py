"""Numbers of the present moment: today's studies, what waits for a worker, and each destination."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service.records.selection import newest_analysis
from service.records.states import WAITING, AnalysisState, DeliveryState, Priority, StudyState
from service.records.tables import Analysis, Delivery, Study


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
        last_delivered: When it last took one.
        last_error: What is written at the newest of those that wait or were refused, with an error.
    """

    destination: str
    waiting: int
    refused: int
    last_delivered: datetime | None
    last_error: str


def today(session: Session, midnight: datetime) -> dict[str, int]:
    """How many studies were received since ``midnight``, by the state of their newest analysis."""
    rows = session.execute(
        select(Analysis.state, func.count())
        .select_from(Study)
        .outerjoin(Analysis, Analysis.id == newest_analysis())
        .where(Study.receiving_since >= midnight)
        .group_by(Analysis.state)
    )
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
    waiting = by_destination(session, DeliveryState.DUE)
    refused = by_destination(session, DeliveryState.REFUSED)
    names = dict.fromkeys((*configured, *sorted({*waiting, *refused})))
    return [
        DestinationLine(
            name,
            waiting.get(name, 0),
            refused.get(name, 0),
            last_delivered=_last_delivered(session, name),
            last_error=_last_error(session, name),
        )
        for name in names
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
    unsent = (DeliveryState.DUE, DeliveryState.REFUSED)
    error = session.scalar(
        select(Delivery.error)
        .where(Delivery.destination == destination, Delivery.state.in_(unsent), Delivery.error != "")
        .order_by(Delivery.id.desc())
        .limit(1)
    )
    return error or ""
