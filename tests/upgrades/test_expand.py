"""From a release to the present schema nothing is taken from the release's code: it goes on beside the new.

What is no longer wanted is taken away one release later ("contract"), when no process knows it any more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import pytest
from sqlalchemy import Engine, inspect

from service.records.migrate import migrate
from tests.service.test_migrations import NEWEST
from tests.upgrades.conftest import Database
from tests.upgrades.rows import rows_of
from tests.upgrades.test_rows import RELEASES

DONE_AT_REST: Final[dict[tuple[str, str], str]] = {}
"""Constraints of old tables that may change, by table and name, and why old code is well with it."""


@dataclass(frozen=True)
class Column:
    """What a statement of old code may meet."""

    kind: str
    nullable: bool
    has_default: bool


Constraints = dict[str, tuple[str, frozenset[str]]]
"""By name: what is said, and the columns that it is about."""


def _columns(engine: Engine, table: str) -> dict[str, Column]:
    return {
        column["name"]: Column(str(column["type"]), column["nullable"], column["default"] is not None)
        for column in inspect(engine).get_columns(table)
    }


def _constraints(engine: Engine, table: str) -> Constraints:
    looked, columns = inspect(engine), _columns(engine, table)
    found: Constraints = {}
    for check in looked.get_check_constraints(table):
        named = {name for name in columns if name in check["sqltext"]}
        found[str(check["name"])] = (check["sqltext"], frozenset(named))
    for key in looked.get_foreign_keys(table):
        of: list[str] = key["constrained_columns"]
        found[str(key["name"])] = (f"{of} of {key['referred_table']}", frozenset(of))
    for one in (*looked.get_unique_constraints(table), *_unique_indexes(looked, table)):
        of = [str(name) for name in one["column_names"]]
        found[str(one["name"])] = (f"unique {of}", frozenset(of))
    return found


def _unique_indexes(looked: Any, table: str) -> list[Any]:
    return [index for index in looked.get_indexes(table) if index["unique"]]


@pytest.mark.parametrize("release", RELEASES)
def test_old_tables_only_grow(database: Database, release: str) -> None:
    engine = database.records.engine
    migrate(engine, release)
    tables = sorted(set(inspect(engine).get_table_names()) - {"alembic_version"})
    before = {table: (_columns(engine, table), _constraints(engine, table)) for table in tables}
    migrate(engine)
    assert set(tables) < set(inspect(engine).get_table_names())
    wrong = []
    for table, (old, said) in before.items():
        wrong += _taken_from(table, old, _columns(engine, table))
        wrong += _tightened(table, old, said, _constraints(engine, table))
    assert wrong == []


def _taken_from(table: str, old: dict[str, Column], new: dict[str, Column]) -> list[str]:
    wrong = [f"{table}.{name} is gone" for name in old if name not in new]
    for name, now in new.items():
        was = old.get(name)
        if was is None:
            if not now.nullable and not now.has_default:
                wrong.append(f"{table}.{name} is new, must be said, and old code does not say it")
        elif was.kind != now.kind:
            wrong.append(f"{table}.{name} was {was.kind} and is {now.kind}")
        elif was.nullable and not now.nullable:
            wrong.append(f"{table}.{name} must be said now")
    return wrong


def _tightened(table: str, old: dict[str, Column], was: Constraints, now: Constraints) -> list[str]:
    """A check that is looser is told, too: what it newly allows old code does not know."""
    wrong = [
        f"{table}: {name} said {said!r}, says {now[name][0] if name in now else None!r}"
        for name, (said, _) in was.items()
        if (table, name) not in DONE_AT_REST and (name not in now or now[name][0] != said)
    ]
    # One on new columns alone holds of what old code writes, which leaves them at their defaults.
    return wrong + [
        f"{table}: {name} is new, on {sorted(of & set(old))}"
        for name, (_, of) in now.items()
        if name not in was and of & set(old) and (table, name) not in DONE_AT_REST
    ]


@pytest.mark.parametrize("release", RELEASES)
def test_what_a_release_writes_the_present_schema_takes(database: Database, release: str) -> None:
    database.make(NEWEST, rows_of(release))
    assert {table: len(rows) for table, rows in database.rows().items()} == {
        table: len(rows) for table, rows in rows_of(release).items()
    }
