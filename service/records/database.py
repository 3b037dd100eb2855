"""Connections to the records: SQLite beside the archive, or PostgreSQL.

Every writing transaction goes through ``Records.writing``: on SQLite it begins IMMEDIATE, since a deferred
transaction that reads before it writes fails at once with BUSY_SNAPSHOT, whatever the time-out.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Engine, create_engine, event, inspect, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from service.errors import OutOfResources, SettingsError
from service.settings import Settings

BUSY_TIMEOUT_SECONDS: Final = 30
CONNECT_TIMEOUT_SECONDS: Final = 10


def utc_now() -> datetime:
    """The present moment, with its zone."""
    return datetime.now(UTC)


class _Rehearsed(Exception):
    """Rolls a transaction back."""


class Records:
    """The database, for one process. Make it after a fork, never before."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @classmethod
    def open(cls, settings: Settings) -> Records:
        """Prepares the connection; nothing is read or written yet.

        Raises:
            SettingsError: If the URL is no database URL, or its driver is missing.
        """
        if settings.embedded_database:
            settings.embedded_database.parent.mkdir(parents=True, exist_ok=True)
        try:
            engine = _create_engine(settings.sqlalchemy_url, settings.maximum_associations)
        except (SQLAlchemyError, ImportError) as error:
            raise SettingsError(f"database_url cannot be used: {_first_line(error)}") from None
        return cls(engine)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A transaction that changes nothing.

        Raises:
            OutOfResources: If the database is away.
        """
        with _translated(), Session(self.engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def snapshot(self) -> Iterator[Session]:
        """A transaction that changes nothing, and all of whose statements see the same moment.

        Raises:
            OutOfResources: If the database is away.
        """
        with self.reading() as session:
            # SQLite's transactions see one moment anyhow; PostgreSQL's see a new one with each statement.
            if self.engine.dialect.name == "postgresql":
                session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A transaction that commits at the end of the block, durably, or leaves no trace.

        Raises:
            OutOfResources: If the database is away or will not take it just now.
        """
        with _translated(), Session(self.engine, expire_on_commit=False) as session:
            if self.engine.dialect.name == "sqlite":
                session.connection(execution_options={"sqlite_begin": "IMMEDIATE"})
            yield session
            session.commit()

    @contextmanager
    def rehearsing(self) -> Iterator[Session]:
        """A writing transaction that leaves no trace: what would come of it is what comes of it.

        Raises:
            OutOfResources: If the database is away or will not take it just now.
        """
        with suppress(_Rehearsed), self.writing() as session:
            yield session
            session.flush()
            raise _Rehearsed

    def require_schema(self) -> None:
        """Checks that the database answers and has our tables.

        Raises:
            SettingsError: One line that says what is missing and what to do.
        """
        try:
            tables = set(inspect(self.engine).get_table_names())
        except SQLAlchemyError as error:
            raise SettingsError(f"the database does not answer: {_first_line(error)}") from None
        if "study" not in tables:
            raise SettingsError("the database has no tables yet: run `litegpt-node migrate`")

    def close(self) -> None:
        """Gives the connections back."""
        self.engine.dispose()


def _create_engine(url: str, at_once: int) -> Engine:
    """An engine for as many transactions at once as there may be associations."""
    if url.startswith("sqlite"):
        engine = create_engine(url, max_overflow=at_once, connect_args={"timeout": BUSY_TIMEOUT_SECONDS})
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    return create_engine(
        url,
        pool_pre_ping=True,
        max_overflow=at_once,
        connect_args={"connect_timeout": CONNECT_TIMEOUT_SECONDS},
    )


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # None: the driver's own BEGIN (deferred, and only before a write) would come too late for ours.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Any) -> None:
    connection.exec_driver_sql(f"BEGIN {connection.get_execution_options().get('sqlite_begin', 'DEFERRED')}")


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeout) as error:
        raise OutOfResources(f"the records: {_first_line(error)}") from error
    except DBAPIError as error:
        if not error.connection_invalidated:
            raise
        raise OutOfResources(f"the records: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    cause = getattr(error, "orig", None) or error
    return str(cause).strip().splitlines()[0] if str(cause).strip() else type(cause).__name__


def durability_complaint(engine: Engine) -> str | None:
    """What makes a commit unsafe on this database; ``None`` where nothing does."""
    if engine.dialect.name != "postgresql":
        return None
    with engine.connect() as connection:
        for name in ("fsync", "synchronous_commit"):
            value = connection.execute(text(f"SHOW {name}")).scalar_one()
            if value == "off":
                return f"PostgreSQL has {name} off: a power cut can lose what we answered Success for"
    return None
