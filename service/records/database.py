"""Connections to the records: SQLite beside the archive, or PostgreSQL.

Every writing transaction goes through ``Records.writing``: on SQLite it begins IMMEDIATE, since a deferred
transaction that reads before it writes fails at once with BUSY_SNAPSHOT, whatever the time-out.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from service.errors import OutOfResources, SettingsError
from service.records.clock import CLOCK, follow
from service.records.liveness import look_before_use
from service.records.schema import is_known, is_older, require_known, revision_of
from service.records.waits import connect_arguments, limit_waits
from service.settings import Settings

log = logging.getLogger(__name__)

BUSY_TIMEOUT_SECONDS: Final = 30


def utc_now() -> datetime:
    """The present moment, as all processes of the node have it; with its zone."""
    return CLOCK.now()


class _Rehearsed(Exception):
    """Rolls a transaction back."""


class Records:
    """The database, for one process. Make it after a fork, never before."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @classmethod
    def open(cls, settings: Settings, *, for_a_caller: bool = False) -> Records:
        """Prepares the connection; nothing is read or written yet.

        Args:
            settings: Where the database is.
            for_a_caller: Whether somebody waits at the other end of a wire, and is answered soon, whatever
                hangs. Else statements take as long as they take.

        Raises:
            SettingsError: If the URL is no database URL, or its driver is missing.
        """
        if settings.embedded_database:
            settings.embedded_database.parent.mkdir(parents=True, exist_ok=True)
        try:
            engine = _create_engine(settings.sqlalchemy_url, settings.maximum_associations)
            limit_waits(engine, for_a_caller=for_a_caller)
            follow(engine)
        except (SQLAlchemyError, ImportError) as error:
            raise SettingsError(f"database_url cannot be used: {_first_line(error)}") from None
        except ValueError:  # which quotes what stands where the port should, such as half a password
            complaint = "its port is no number; a password's @ : / are written %40 %3A %2F"
            raise SettingsError(f"database_url cannot be used: {complaint}") from None
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
    def connecting(self) -> Iterator[Connection]:
        """As ``reading``, for whoever has statements and no objects: a session costs as much as a statement.

        Raises:
            OutOfResources: If the database is away.
        """
        with _translated(), self.engine.connect() as connection:
            yield connection

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
    def entering(self) -> Iterator[Connection]:
        """As ``writing``, for whoever has statements and no objects.

        Raises:
            OutOfResources: If the database is away or will not take it just now.
        """
        with _translated(), self.engine.connect() as connection:
            if self.engine.dialect.name == "sqlite":
                connection.execution_options(sqlite_begin="IMMEDIATE")
            with connection.begin():
                yield connection

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
        """Checks that the database answers and has the tables that this version of the node knows.

        A newer schema is refused on SQLite. On PostgreSQL it is only warned of: there the next version's
        ``migrate`` leaves it to the processes of this one, until they are replaced.

        Raises:
            SettingsError: One line that says what is missing and what to do.
        """
        try:
            with self.engine.connect() as connection:
                schema = revision_of(connection)
        except SQLAlchemyError as error:
            raise SettingsError(f"the database does not answer: {_first_line(error)}") from None
        if schema is None:
            raise SettingsError("the database has no tables yet: run `litegpt-node migrate`")
        if is_older(schema):
            raise SettingsError(
                f"the database is of an older version of the node (schema {schema}): "
                "run `litegpt-node migrate`"
            )
        if self.engine.dialect.name == "sqlite":
            require_known(schema, "the database")
        elif not is_known(schema):
            log.warning(
                "the database is of a newer version of the node (schema %s): upgrade this one", schema
            )

    def forget_deleted(self) -> None:
        """Empties SQLite's write-ahead log, in which deleted rows still stand; PostgreSQL vacuums by itself.

        Raises:
            OutOfResources: If the database is away.
        """
        if self.engine.dialect.name == "sqlite":
            with _translated(), self.engine.connect() as connection:
                connection.execution_options(isolation_level="AUTOCOMMIT")
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Gives the connections back."""
        self.engine.dispose()


def _create_engine(url: str, at_once: int) -> Engine:
    """An engine for as many transactions at once as there may be associations."""
    if url.startswith("sqlite"):
        engine = create_engine(
            url,
            max_overflow=at_once,
            connect_args={"timeout": BUSY_TIMEOUT_SECONDS},
            hide_parameters=True,
        )
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    by_psycopg = make_url(url).get_driver_name() == "psycopg"
    engine = create_engine(
        url,
        pool_pre_ping=not by_psycopg,
        max_overflow=at_once,
        connect_args=connect_arguments(url),
        hide_parameters=True,
    )
    if by_psycopg:
        look_before_use(engine)
    event.listen(engine, "connect", _prepare_postgresql)
    return engine


def _prepare_postgresql(connection: Any, _record: object) -> None:
    # Compiling one of our statements takes longer than it saves: seconds, where the tables are large.
    with connection.cursor() as cursor:
        cursor.execute("SET jit = off")
    connection.commit()


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # None: the driver's own BEGIN (deferred, and only before a write) would come too late for ours.
    connection.isolation_level = None
    cursor = connection.cursor()
    # secure_delete: what is deleted, or written over, is nowhere in the file any more.
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
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
