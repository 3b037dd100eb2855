"""The worker processes, each a row: on any machine, by what they say of themselves every few seconds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, cast

from sqlalchemy import CursorResult, delete, select, update
from sqlalchemy.orm import Session

from service.heartbeat import BEAT_IS_OLD_SECONDS
from service.records.tables import WorkerProcess

SILENT_AFTER: Final = timedelta(seconds=BEAT_IS_OLD_SECONDS)
"""A process that has said nothing for so long is shown as silent."""

SILENT: Final = "silent"

FORGOTTEN_AFTER: Final = timedelta(days=1)
"""One that has died is shown for so long."""


@dataclass(frozen=True, slots=True)
class Saying:
    """What a worker process says of itself.

    Attributes:
        part: The queue that it works on.
        host, pid: Where it runs.
        started_at: When it began.
        model, device: What it has loaded, and on what that is computed; empty before that.
        in_hand: How many analyses, or deliveries, it works on.
        busy_since: Since when it has had them.
    """

    part: str
    host: str
    pid: int
    started_at: datetime
    model: str = ""
    device: str = ""
    in_hand: int = 0
    busy_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class WorkerLine:
    """A worker process as it was last heard; ``beaten_at`` is when."""

    part: str
    host: str
    pid: int
    model: str
    device: str
    in_hand: int
    busy_since: datetime | None
    started_at: datetime
    beaten_at: datetime

    def is_silent(self, now: datetime) -> bool:
        """Whether it should have been heard since."""
        return now - self.beaten_at > SILENT_AFTER

    def state(self, now: datetime) -> str:
        """``silent``, ``idle``, or what it does."""
        if self.is_silent(now):
            return SILENT
        if not self.in_hand:
            return "idle"
        return "analysing" if self.part == "analysis" else "delivering"


def beat(session: Session, row_id: int | None, saying: Saying, now: datetime) -> int:
    """Writes down what a process says of itself; returns the row, for its next beat."""
    said = {name: getattr(saying, name) for name in Saying.__dataclass_fields__} | {"beaten_at": now}
    if row_id is not None:
        change = update(WorkerProcess).where(WorkerProcess.id == row_id).values(said)
        if cast("CursorResult[Any]", session.execute(change)).rowcount:
            return row_id
    row = WorkerProcess(**said)
    session.add(row)
    session.flush()
    return row.id


def leave(session: Session, row_id: int) -> None:
    """A process ends in order."""
    session.execute(delete(WorkerProcess).where(WorkerProcess.id == row_id))


def replace_dead(session: Session, saying: Saying, is_alive: Callable[[int], bool]) -> None:
    """A process that begins takes the place of those of its kind and host that have died.

    Args:
        session: A writing transaction.
        saying: Of the process that begins.
        is_alive: Whether a process of this host runs, by its id.
    """
    same = (WorkerProcess.part == saying.part, WorkerProcess.host == saying.host)
    for row in session.scalars(select(WorkerProcess).where(*same)).all():
        # One with our own id was here before the machine, or the container, was started again.
        if row.pid == saying.pid or not is_alive(row.pid):
            session.delete(row)


def forget_dead(session: Session, now: datetime) -> None:
    """Drops those that have said nothing for a day."""
    session.execute(delete(WorkerProcess).where(WorkerProcess.beaten_at < now - FORGOTTEN_AFTER))


def workers(session: Session) -> tuple[WorkerLine, ...]:
    """All of them, analysis first, by host."""
    in_order = (WorkerProcess.part, WorkerProcess.host, WorkerProcess.started_at, WorkerProcess.id)
    return tuple(
        WorkerLine(**{name: getattr(row, name) for name in WorkerLine.__dataclass_fields__})
        for row in session.scalars(select(WorkerProcess).order_by(*in_order))
    )
