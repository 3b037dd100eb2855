"""Bringing the database to the present schema, step by step, with Alembic."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from service.errors import SettingsError


def migrate(engine: Engine, revision: str = "head") -> tuple[str | None, str | None]:
    """Takes the database up (or down) to a revision; all steps in one transaction.

    Args:
        engine: The records' database.
        revision: ``head``, ``base``, or a revision's id.

    Returns:
        The revision before and after; ``None`` is an empty database.

    Raises:
        SettingsError: If the database is away, of a newer version of the node, or the revision unknown.
    """
    try:
        with engine.begin() as connection:
            before, config = revision_of(connection), _config()
            if before is not None:
                require_known(before, "the database")
            config.attributes["connection"] = connection
            if revision == "base" or (before and _is_ancestor(config, revision, before)):
                command.downgrade(config, revision)
            else:
                command.upgrade(config, revision)
            return before, revision_of(connection)
    except (SQLAlchemyError, CommandError) as error:
        raise SettingsError(f"the database cannot be migrated: {str(error).splitlines()[0]}") from error


def pending(engine: Engine) -> bool:
    """Whether the database is behind the present schema.

    Raises:
        SettingsError: If it is of a newer version of the node.
    """
    with engine.connect() as connection:
        current = revision_of(connection)
    if current is not None:
        require_known(current, "the database")
    return current != ScriptDirectory.from_config(_config()).get_current_head()


def revision_of(connection: Connection) -> str | None:
    """The schema that a database has; ``None`` is an empty one."""
    return MigrationContext.configure(connection).get_current_revision()


def require_known(revision: str, whose: str) -> None:
    """Looks whether this version of the node knows a schema.

    Raises:
        SettingsError: If it does not; ``whose`` is what has that schema.
    """
    try:
        ScriptDirectory.from_config(_config()).get_revision(revision)
    except CommandError:
        raise SettingsError(
            f"{whose} is of a newer version of the node (schema {revision}) than this one"
        ) from None


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(str(files("migrations")))))
    return config


def _is_ancestor(config: Config, revision: str, of: str) -> bool:
    steps = ScriptDirectory.from_config(config).iterate_revisions(of, "base")
    return revision in {step.revision for step in steps} - {of}
