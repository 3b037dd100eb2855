"""Whether a pooled connection to PostgreSQL still stands: the server is asked only where a look will not do.

A server that ends a session says so, and so there is something to read where nothing is expected. A machine
that has gone says nothing: a connection that was idle for a while is asked. SQLAlchemy's ``pool_pre_ping``
asks before each transaction, which costs each a round trip.
"""

from __future__ import annotations

import select
import time
from functools import partial
from typing import Any, Final

from sqlalchemy import Engine, event
from sqlalchemy.exc import InvalidatePoolError

ASKED_AFTER_SECONDS: Final = 5.0
"""What has been idle for so long is asked, whatever its socket looks like."""

_IDLE_SINCE: Final = "idle_since"


def look_before_use(engine: Engine) -> None:
    """Has every connection of an engine by psycopg looked at before it is used again."""
    event.listen(engine, "checkin", _note)
    event.listen(engine, "checkout", partial(_look, engine))


def _note(_connection: Any, record: Any) -> None:
    record.info[_IDLE_SINCE] = time.monotonic()


def _look(engine: Engine, connection: Any, record: Any, _proxy: object) -> None:
    idle_since = record.info.get(_IDLE_SINCE)
    if idle_since is None:
        return  # it was made just now
    idle_seconds = time.monotonic() - idle_since
    if connection.closed or (
        (idle_seconds >= ASKED_AFTER_SECONDS or _says_something(connection))
        and not _answers(engine, connection)
    ):
        raise InvalidatePoolError  # those beside it are of the same server


def _says_something(connection: Any) -> bool:
    socket = select.poll()
    socket.register(connection.fileno(), select.POLLIN)
    return bool(socket.poll(0))


def _answers(engine: Engine, connection: Any) -> bool:
    dialect: Any = engine.dialect
    try:
        return bool(dialect.do_ping(connection))
    except dialect.loaded_dbapi.Error as error:
        if dialect.is_disconnect(error, connection, None):
            return False
        raise
