"""Which schema a database has, and where that stands among those that this version of the node knows.

Every process looks at its start, so this does without Alembic, which takes half a second to load.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import Final

from sqlalchemy import Connection, Engine, inspect, text

from service.errors import SettingsError

_STEP: Final = re.compile(r"(\d{4})_\w+\.py")


@cache
def revisions() -> tuple[str, ...]:
    """All schemas that there have been, oldest first: the numbers that the steps' files begin with."""
    names = (file.name for file in files("migrations").joinpath("versions").iterdir())
    return tuple(sorted(step[1] for name in names if (step := _STEP.fullmatch(name))))


def newest() -> str:
    """The present schema."""
    return revisions()[-1]


def revision_of(connection: Connection) -> str | None:
    """The schema that a database has; ``None`` is an empty one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return found


def is_known(revision: str) -> bool:
    """Whether this version of the node knows a schema."""
    return revision in revisions()


def is_older(revision: str) -> bool:
    """Whether a schema is one of those that came before the present one."""
    return revision in revisions()[:-1]


def require_known(revision: str, whose: str) -> None:
    """Looks whether this version of the node knows a schema.

    Raises:
        SettingsError: If it does not; ``whose`` is what has that schema.
    """
    if not is_known(revision):
        raise SettingsError(f"{whose} is of a newer version of the node (schema {revision}) than this one")


def pending(engine: Engine) -> bool:
    """Whether the database is behind the present schema.

    Raises:
        SettingsError: If it is of a newer version of the node.
    """
    with engine.connect() as connection:
        current = revision_of(connection)
    if current is not None:
        require_known(current, "the database")
    return current != newest()
