"""One commit for what several associations have to write at the same time.

SQLite takes one writer at a time, and lets the others sleep for up to a tenth of a second before they look
again; each commit costs a sync of its own. Here whoever comes while another one writes leaves its entry, and
the next writer takes all of them along in one transaction. PostgreSQL does that by itself: transactions that
commit at the same time share a flush of its log. There every entry has a transaction of its own, so that no
two of ours can wait for each other's rows.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from sqlalchemy import Connection

from service.errors import OutOfResources
from service.records.database import Records

Value = TypeVar("Value")

MOST_AT_ONCE: Final = 64
"""Entries of one transaction."""


@dataclass(slots=True, eq=False)
class _Entry:
    write: Callable[[Connection], Any]
    is_done: bool = False
    value: Any = None
    error: Exception | None = None


class Ledger:
    """Where the threads of one process write."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._shares = records.engine.dialect.name == "sqlite"
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._waiting: list[_Entry] = []

    def enter(self, write: Callable[[Connection], Value]) -> Value:
        """Runs ``write`` in a transaction; what it returns is durable when this returns.

        Args:
            write: May be run a second time, when another entry of its transaction has failed.

        Raises:
            OutOfResources: If the database is away or will not take it just now.
            Exception: What ``write`` raises; then it has left no trace.
        """
        if not self._shares:
            return self._alone(write)
        entry = _Entry(write)
        with self._lock:
            self._waiting.append(entry)
        with self._turn:
            if not entry.is_done:
                self._commit(self._next())
        if entry.error is not None:
            raise entry.error
        value: Value = entry.value
        return value

    def _next(self) -> list[_Entry]:
        with self._lock:
            taken, self._waiting = self._waiting[:MOST_AT_ONCE], self._waiting[MOST_AT_ONCE:]
        return taken

    def _commit(self, entries: list[_Entry]) -> None:
        """Writes entries together; where one of them fails, each of them alone."""
        try:
            with self._records.entering() as connection:
                for entry in entries:
                    entry.value = entry.write(connection)
        except Exception as error:  # noqa: BLE001 - the thread whose entry it is raises it again
            if len(entries) > 1 and not isinstance(error, OutOfResources):
                for entry in entries:
                    self._commit([entry])
                return
            for entry in entries:
                entry.error = error
        for entry in entries:
            entry.is_done = True

    def _alone(self, write: Callable[[Connection], Value]) -> Value:
        with self._records.entering() as connection:
            return write(connection)
