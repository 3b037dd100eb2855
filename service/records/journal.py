"""The audit: what people did, newest first, paged by key."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Select, select
from sqlalchemy.orm import Session, aliased

from service.records.database import Records, utc_now
from service.records.tables import AuditEvent

_LOOKED_THROUGH: Final = 5000
"""How many of the newest events are looked through for those of one study."""


@dataclass(frozen=True, slots=True)
class Event:
    """One of them.

    Attributes:
        id: Larger is newer.
        at, who, action: When, who and what.
        asked: Of what and how, without any patient's name.
        outcome: How many met which end.
    """

    id: int
    at: datetime
    who: str
    action: str
    asked: Mapping[str, Any]
    outcome: Mapping[str, Any]


def write_down(
    session: Session, who: str, action: str, outcome: Mapping[str, int] | None = None, **asked: Any
) -> None:
    """Writes down what a person did, and how many met which end."""
    event = AuditEvent(
        at=utc_now(),
        who=who,
        action=action,
        asked=json.dumps(asked),
        outcome=json.dumps(outcome or {}),
    )
    session.add(event)


def events(session: Session, before: int | None = None, limit: int = 100) -> list[Event]:
    """The newest ones, or those before one."""
    return [_event(row) for row in session.scalars(_newest(before).limit(limit))]


def events_of_study(session: Session, uid: str, limit: int = 20) -> list[Event]:
    """The newest that name this study."""
    recent = aliased(AuditEvent, _newest(None).limit(_LOOKED_THROUGH).subquery())
    rows = select(recent).where(recent.asked.contains(f'"{uid}"', autoescape=True))
    return [_event(row) for row in session.scalars(rows.order_by(recent.id.desc()).limit(limit))]


def all_events(records: Records, at_once: int = 1000) -> Iterator[Event]:
    """Every one, in pages, each of them a transaction of its own."""
    before = None
    while True:
        with records.reading() as session:
            page = events(session, before, at_once)
        if not page:
            return
        yield from page
        before = page[-1].id


def _newest(before: int | None) -> Select[AuditEvent]:
    rows = select(AuditEvent).order_by(AuditEvent.id.desc())
    return rows if before is None else rows.where(AuditEvent.id < before)


def _event(row: AuditEvent) -> Event:
    return Event(row.id, row.at, row.who, row.action, json.loads(row.asked), json.loads(row.outcome))
