"""Bringing the database to the present schema, step by step, with Alembic.

On PostgreSQL the node of the release before goes on meanwhile. So each step is a transaction of its own, and
one that cannot have its locks at once lets go and comes again: behind whoever waits for one, all others wait.
"""

from __future__ import annotations

import logging
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from service.errors import SettingsError
from service.records.schema import require_known, revision_of

log = logging.getLogger(__name__)

PATIENCE_SECONDS: Final = 600.0
"""How long a step tries to have its locks."""

_LOCK_MILLISECONDS: Final = 500
"""How long writers are held up where a lock is not to be had. Less than PostgreSQL's ``deadlock_timeout``:
where a migration and a process of the node wait for each other, the migration gives way."""
_PAUSE_SECONDS: Final = 0.5
_NOT_GRANTED: Final = ("55P03", "40P01")
"""PostgreSQL's ``lock_not_available`` and ``deadlock_detected``."""


def migrate(
    engine: Engine, revision: str = "head", *, patience_seconds: float = PATIENCE_SECONDS
) -> tuple[str | None, str | None]:
    """Takes the database up (or down) to a revision.

    All steps are one transaction; on a PostgreSQL with tables each step up is one: a migration that is broken
    off there leaves the schema of one of the steps, and goes on from that.

    Args:
        engine: The records' database.
        revision: ``head``, ``base``, or a revision's id.
        patience_seconds: How long a step on PostgreSQL tries to have its locks.

    Returns:
        The revision before and after; ``None`` is an empty database.

    Raises:
        SettingsError: If the database is away, in use for too long or of a newer version of the node, or the
            revision unknown.
    """
    try:
        with engine.connect() as connection:
            before = revision_of(connection)
        if before is not None:
            require_known(before, "the database")
        down = before is not None and _is_below(revision, before)
        for step in _steps(engine, before, revision, down):
            _take(engine, step, down, time.monotonic() + patience_seconds)
        with engine.connect() as connection:
            return before, revision_of(connection)
    except (SQLAlchemyError, CommandError) as error:
        raise SettingsError(f"the database cannot be migrated: {str(error).splitlines()[0]}") from error


def _steps(engine: Engine, before: str | None, revision: str, down: bool) -> list[str]:
    """Where to go, one transaction each."""
    scripts = _scripts()
    goal = scripts.get_revision(revision)
    if before == (goal and goal.revision):
        return []
    if before is None or down or engine.dialect.name != "postgresql":
        return [revision]
    return [step.revision for step in scripts.iterate_revisions(revision, before)][::-1]


def _take(engine: Engine, revision: str, down: bool, deadline: float) -> None:
    """One transaction of a migration, again until it has its locks."""
    while True:
        try:
            with _transaction(engine) as connection:
                _go(connection, revision, down)
            return
        except OperationalError as error:
            if getattr(error.orig, "sqlstate", None) not in _NOT_GRANTED:
                raise
            if time.monotonic() > deadline:
                raise SettingsError(
                    f"schema {revision} cannot be reached while a long query, such as a backup's, holds its "
                    "tables: try again later"
                ) from None
        log.info("schema %s waits: a long query, such as a backup's, holds its tables", revision)
        time.sleep(_PAUSE_SECONDS)


def _go(connection: Connection, revision: str, down: bool) -> None:
    config, current = _config(), revision_of(connection)
    config.attributes["connection"] = connection
    if down:
        command.downgrade(config, revision)
    elif current is None or not _is_below(revision, current):  # else another `migrate` came first
        command.upgrade(config, revision)


@contextmanager
def _transaction(engine: Engine) -> Iterator[Connection]:
    if engine.dialect.name == "sqlite":
        with _sqlite_transaction(engine) as connection:
            yield connection
        return
    with engine.begin() as connection:
        connection.execute(text(f"SET LOCAL lock_timeout = {_LOCK_MILLISECONDS}"))
        # One `migrate` at a time.
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtext(current_schema()), 0)"))
        yield connection


@contextmanager
def _sqlite_transaction(engine: Engine) -> Iterator[Connection]:
    """Without foreign keys: where a table is made anew, the old one is dropped while others refer to it."""
    with engine.connect() as connection:
        driver = connection.connection.cursor()
        driver.execute("PRAGMA foreign_keys=OFF")  # has no effect within a transaction
        try:
            with connection.execution_options(sqlite_begin="IMMEDIATE").begin():
                yield connection
                if wrong := connection.execute(text("PRAGMA foreign_key_check")).first():
                    raise CommandError(f"a row of {wrong[0]} would refer to none of {wrong[2]}")
        finally:
            driver.execute("PRAGMA foreign_keys=ON")
            driver.close()


def losses(engine: Engine, revision: str) -> list[str]:
    """What rows the schema of a revision has no place for, each kind with its number; none on the way up.

    Each step says it itself: ``LOST`` are pairs of a name and the SQL that counts them.

    Raises:
        SettingsError: If the database is away, or of a newer version of the node.
    """
    try:
        with engine.connect() as connection:
            current = revision_of(connection)
            if current is None:
                return []
            require_known(current, "the database")
            if not _is_below(revision, current):
                return []
            undone = _scripts().iterate_revisions(current, revision)
            kinds = [kind for step in undone for kind in getattr(step.module, "LOST", ())]
            counted = [(connection.execute(text(sql)).scalar_one(), what) for what, sql in kinds]
            return [f"{number} {what}" for number, what in counted if number]
    except SQLAlchemyError as error:
        raise SettingsError(f"the database does not answer: {str(error).splitlines()[0]}") from error


def revision_named(name: str) -> str:
    """A revision by its own name, or by that of a release.

    Raises:
        SettingsError: If there is none.
    """
    for release in releases():
        if name == release["version"]:
            return release["schema"]
    try:
        revision = _scripts().get_revision(name)
    except CommandError:
        revision = None
    if revision is None:
        known = ", ".join(release["version"] for release in releases())
        raise SettingsError(f"{name} is neither a release ({known}) nor a schema of the node")
    return revision.revision


def releases() -> list[dict[str, str]]:
    """Each release, oldest first: its ``version``, ``schema`` and ``commit``."""
    table = tomllib.loads(files("migrations").joinpath("releases.toml").read_text(encoding="ascii"))
    found: list[dict[str, str]] = table["release"]
    return found


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(str(files("migrations")))))
    return config


@cache
def _scripts() -> ScriptDirectory:
    """Read once: each reading executes all of the steps' files."""
    return ScriptDirectory.from_config(_config())


def _is_below(revision: str, of: str) -> bool:
    if revision == "base":
        return True
    return revision in {step.revision for step in _scripts().iterate_revisions(of, "base")} - {of}
