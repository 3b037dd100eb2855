"""Rows of every schema mean today what they meant when they were written, and go back to a release."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from typer.testing import CliRunner, Result

from service.cli.main import application
from service.records.migrate import migrate, releases
from service.records.schema import pending
from service.supervisor import alone_in
from tests.service.test_migrations import NEWEST, VERSIONS
from tests.upgrades.conftest import Database
from tests.upgrades.rows import NEW, SAID, UNSAID, Row, Tables, meaning_of, rows_of

REVISIONS = sorted(path.name.split("_")[0] for path in VERSIONS.glob("0*.py"))
RELEASES = [release["schema"] for release in releases()]


def _same(tables: Tables) -> dict[str, list[str]]:
    """The tables with rows, rows and columns without an order."""
    return {table: sorted(str(sorted(row.items())) for row in rows) for table, rows in tables.items() if rows}


def test_the_rows_are_of_schemas_that_there_are() -> None:
    assert {*NEW, *SAID} <= set(REVISIONS)
    assert sorted(RELEASES) == RELEASES
    assert set(RELEASES) < set(REVISIONS)


def test_every_table_has_rows(database: Database) -> None:
    database.make(NEWEST, rows_of(NEWEST))
    tables = database.rows()
    with database.records.engine.connect() as connection:
        named = "SELECT name FROM sqlite_master WHERE type = 'table'"
        if database.kind == "postgresql":
            named = "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"
        there = set(connection.execute(text(named)).scalars()) - {"alembic_version"}
    assert set(tables) == there
    assert _same(tables) == _same(meaning_of(NEWEST))


@pytest.mark.parametrize("revision", REVISIONS[:-1])
def test_rows_of_each_schema_mean_the_same_today(database: Database, revision: str) -> None:
    database.make(revision, rows_of(revision))
    assert migrate(database.records.engine) == (revision, NEWEST)
    assert not pending(database.records.engine)
    assert _same(database.rows()) == _same(meaning_of(revision))


@pytest.mark.parametrize("release", RELEASES)
def test_what_a_release_can_hold_survives_the_way_down(database: Database, release: str) -> None:
    engine = database.records.engine
    database.make(NEWEST, rows_of(NEWEST))
    migrate(engine, release)
    there = database.rows()
    assert _same(there) == _same(_as_held_by(release, there))
    migrate(engine)
    assert _same(database.rows()) == _same(meaning_of(release))


def _as_held_by(release: str, there: Tables) -> Tables:
    """The rows that the release's own code would have written, in full."""

    def unsaid(table: str) -> Row:
        return {name: value for name, value in UNSAID.get(table, {}).items() if name in there[table][0]}

    return {table: [unsaid(table) | row for row in rows] for table, rows in rows_of(release).items()}


def node_command(database: Database, *arguments: str | Path) -> Result:
    """Runs ``litegpt-node`` on the database, in this process."""
    url = {"LITEGPT_DATABASE_URL": database.settings.database_url} if database.settings.database_url else {}
    command = [str(argument) for argument in arguments]
    environment = {"COLUMNS": "200", "LITEGPT_DATA_DIR": str(database.settings.data_dir), **url}
    return CliRunner().invoke(application(), command, env=environment)


def _said(result: Result) -> str:
    """What a command that is refused says in its one line."""
    assert result.exit_code != 0
    return f"{result.output}{result.exception}"


def test_going_down_says_what_would_be_lost(database: Database) -> None:
    database.make(NEWEST, rows_of(NEWEST))
    before = database.rows()
    said = _said(node_command(database, "migrate", "--to", "0.1.0"))
    for lost in (
        "2 attempts at deliveries",
        "1 conflicts that were ended",
        "1 requests for storage commitment",
        "1 deliveries that wait for storage commitment",
        "1 modalities' requests for storage commitment",
        "1 images that the node has promised to keep",
    ):
        assert lost in said
    assert database.rows() == before
    done = node_command(database, "migrate", "--to", "0.1.0", "--give-up")
    assert (done.exit_code, done.output) == (0, f"the database went from {NEWEST} to 0012\n")


def test_going_down_loses_nothing_where_nothing_new_was_said(database: Database) -> None:
    database.make("0012", rows_of("0012"))
    before = database.rows()
    migrate(database.records.engine)
    assert node_command(database, "migrate", "--to", "0012").exit_code == 0
    assert database.rows() == before
    assert "neither a release (0.1.0) nor a schema" in _said(
        node_command(database, "migrate", "--to", "0.0.9")
    )


def test_an_embedded_database_is_migrated_at_rest_alone(database: Database) -> None:
    database.make("0012", rows_of("0012"))
    with alone_in(database.settings.data_dir):
        done = node_command(database, "migrate")
    if database.kind == "sqlite":
        assert "is up in" in _said(done) and "stop it first" in _said(done)
    else:
        assert done.exit_code == 0, done.output


@pytest.mark.parametrize("command", [["sweep"], ["studies"], ["check"]], ids=" ".join)
def test_an_older_schema_is_refused(database: Database, command: list[str]) -> None:
    database.make("0012", rows_of("0012"))
    said = _said(node_command(database, *command))
    assert "of an older version of the node (schema 0012): run `litegpt-node migrate`" in said


def test_a_newer_schema_is_left_to_the_processes_that_run(database: Database, caplog: Any) -> None:
    database.make(NEWEST, rows_of(NEWEST))
    engine = database.records.engine
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    done = node_command(database, "studies")
    if database.kind == "sqlite":
        assert "newer version of the node (schema 9999)" in _said(done)
    else:
        assert done.exit_code == 0, done.output
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE alembic_version SET version_num = '{NEWEST}'"))
