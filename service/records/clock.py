"""The time that all processes of a node agree on, however wrong the clocks of their machines are.

Leases, waits and quiet periods are written by one process and judged by another, perhaps on another machine.
So with PostgreSQL its clock is the node's, asked now and then and carried on by this machine's monotonic one,
which nobody sets. With SQLite all processes are on one machine and read its clock.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Engine, event

ASKED_EVERY_SECONDS: Final = 30.0
"""So long after the database's clock was set, or a machine has woken up, all follow it."""


class Clock:
    """The present moment."""

    def __init__(self) -> None:
        self._told: tuple[datetime, float] | None = None

    def now(self) -> datetime:
        """As the database has it, where one has been asked; with its zone."""
        if self._told is None:
            return datetime.now(UTC)
        at, then = self._told
        return at + timedelta(seconds=time.monotonic() - then)

    def set(self, now: datetime) -> None:
        """Goes on from there."""
        self._told = now.astimezone(UTC), time.monotonic()

    @property
    def is_stale(self) -> bool:
        """Whether it is time to ask again."""
        return self._told is None or time.monotonic() - self._told[1] > ASKED_EVERY_SECONDS


CLOCK: Final = Clock()
"""The one of this process, as its system's clock would be."""


def follow(engine: Engine) -> None:
    """Has this process follow the clock of a PostgreSQL that it uses; SQLite has none of its own."""
    if engine.dialect.name == "postgresql":
        event.listen(engine, "checkout", _ask_now_and_then)


def _ask_now_and_then(connection: Any, _record: object, _proxy: object) -> None:
    if CLOCK.is_stale:
        with connection.cursor() as cursor:
            cursor.execute("SELECT clock_timestamp()")
            CLOCK.set(cursor.fetchone()[0])
        connection.rollback()


def difference(engine: Engine) -> timedelta:
    """How far this machine's clock is ahead of the database's; SQLite's is the same."""
    if engine.dialect.name != "postgresql":
        return timedelta(0)
    with engine.connect() as connection:
        theirs: datetime = connection.exec_driver_sql("SELECT clock_timestamp()").scalar_one()
    return datetime.now(UTC) - theirs
