"""How long PostgreSQL is waited for: a server or a lock that gives no answer gets an end.

Three things may hang, and each has a limit of its own. A machine that has gone without a word is noticed by
TCP, on both sides: else we would wait for a quarter of an hour, and what we had locked be locked for two
hours. A lock that somebody forgets (a session left open in a transaction) is given up by the server.
One that takes what we say and never answers (a process that is stopped, storage that hangs) is noticed by
nobody but ourselves; only who has a caller waiting has to, since all others go on when it does.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Engine, event, make_url

CONNECT_TIMEOUT_SECONDS: Final = 10
SILENCE_SECONDS: Final = 30
"""Who acknowledges nothing for so long is gone."""

LOCK_SECONDS: Final = 30.0
"""A lock is waited for so long; SQLite's the same (``BUSY_TIMEOUT_SECONDS``)."""

CALLERS_LOCK_SECONDS: Final = 10.0
"""Where a caller waits. With the limit for any answer (``impatience``) and that for a new connection after it
there is an answer within half a minute, before modalities give up."""


def connect_arguments(url: str) -> dict[str, int]:
    """libpq's, by the names that it has for them; what the URL says of them itself holds."""
    asked = {"connect_timeout": CONNECT_TIMEOUT_SECONDS, **_silence()}
    said_otherwise = make_url(url).query
    return {name: value for name, value in asked.items() if name not in said_otherwise}


def _silence() -> dict[str, int]:
    """Probes into a silence, and the end of it: in seconds, and in milliseconds for the last."""
    probe = max(1, SILENCE_SECONDS // 3)
    return {
        "keepalives_idle": probe,
        "keepalives_interval": probe,
        "keepalives_count": 2,
        "tcp_user_timeout": SILENCE_SECONDS * 1000,
    }


def limit_waits(engine: Engine, *, for_a_caller: bool) -> None:
    """Has every connection of an engine give up in time; SQLite's have a limit already."""
    if engine.dialect.name != "postgresql":
        return
    lock_seconds = CALLERS_LOCK_SECONDS if for_a_caller else LOCK_SECONDS

    # The server, too, is to end a session whose other side is silent, and so let go of its locks.
    settings = {f"tcp_{name.removeprefix('tcp_')}": value for name, value in _silence().items()}
    settings["lock_timeout"] = round(lock_seconds * 1000)

    def limit(connection: Any, _record: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT " + ", ".join(["set_config(%s, %s, false)"] * len(settings)),
                [word for name, value in settings.items() for word in (name, str(value))],
            )
        connection.commit()

    event.listen(engine, "connect", limit)
    if for_a_caller and engine.driver == "psycopg":
        event.listen(engine, "do_connect", _connect_for_a_caller)


def _connect_for_a_caller(
    _dialect: object, _record: object, arguments: list[Any], named: dict[str, Any]
) -> Any:
    """Makes the connection that SQLAlchemy asks for."""
    # Here and not above: who uses SQLite need not wait for the driver to load.
    from service.records.impatience import ImpatientConnection

    return ImpatientConnection.connect(*arguments, **named)
