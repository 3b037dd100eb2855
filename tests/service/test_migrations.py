"""The migrations make what the models say, from nothing and back, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, inspect, select, text
from sqlalchemy.exc import IntegrityError

from service.errors import SettingsError
from service.records import schema
from service.records.database import Records, durability_complaint
from service.records.migrate import migrate
from service.records.schema import pending
from service.records.tables import Base, Finding
from service.settings import Settings

VERSIONS = Path(__file__).parents[2] / "migrations" / "versions"
NEWEST = max(path.name.split("_")[0] for path in VERSIONS.glob("0*.py"))
NOW = "'2025-01-01 00:00:00'"
OLD_ROWS = (
    f"INSERT INTO study VALUES (1, '1.2', '', '', 'complete', {NOW}, {NOW}, NULL)",
    "INSERT INTO instance VALUES"
    f" (1, 1, '1.2.3', '1.2', '1.2', '1.2', 'digest', 'path', 1, 'stored', true, '', '', {NOW})",
    "INSERT INTO analysis VALUES"
    f" (1, 1, 'input', 'model', '1', 'settings', true, 'done', 1, 0, {NOW}, '', {NOW}, NULL, NULL)",
    "INSERT INTO analysis_image VALUES (1, 1, 0, '')",
    "INSERT INTO finding VALUES (1, 1, 1, 0, 'Edema', 0.25, 0.5, 1.5, 3.5, 4.5)",
)
"""One finding as version 0001 of the schema kept it."""
OLD_DELIVERY = (
    f"INSERT INTO result VALUES (1, 1, 'sr', '1.2', '1.2.4', '1', 'path', 'digest', {NOW})",
    f"INSERT INTO delivery VALUES (1, 1, 'A@b:1', 'refused', 1, {NOW}, '', NULL)",
)


@pytest.fixture
def empty(settings: Settings) -> Iterator[Engine]:
    """A database without any table."""
    settings.data_dir.mkdir()
    records = Records.open(settings)
    migrate(records.engine)
    migrate(records.engine, "base")
    yield records.engine
    records.close()


def _tables(engine: Engine) -> set[str]:
    return set(inspect(engine).get_table_names()) - {"alembic_version"}


def test_the_migrations_and_the_models_agree(empty: Engine) -> None:
    migrate(empty)
    missing = set() if empty.dialect.name == "postgresql" else {"ix_study_uid_begins"}

    def is_here(_: object, name: str | None, *__: object) -> bool:
        return name not in missing

    options = {"compare_type": True, "include_object": is_here}
    with empty.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection, opts=options), Base.metadata)
    assert differences == []
    assert {index["name"] for index in inspect(empty).get_indexes("study")}.isdisjoint(missing)
    assert _tables(empty) == set(Base.metadata.tables)


def test_the_migrations_make_the_models_checks(empty: Engine) -> None:
    """Alembic does not compare CHECK constraints, so this does."""
    migrate(empty)
    for name, table in Base.metadata.tables.items():
        made = {check["name"] for check in inspect(empty).get_check_constraints(name)}
        meant = {check.name for check in table.constraints if str(check.name).startswith("ck_")}
        assert made == meant, name


def test_up_down_and_up_again(empty: Engine) -> None:
    assert _tables(empty) == set()
    assert migrate(empty) == (None, NEWEST)
    assert not pending(empty)
    assert migrate(empty) == (NEWEST, NEWEST)
    assert migrate(empty, "base") == (NEWEST, None)
    assert _tables(empty) == set()
    assert pending(empty)
    migrate(empty)


def test_findings_from_before_there_were_thresholds_were_all_reported(empty: Engine) -> None:
    migrate(empty, "0001")
    with empty.begin() as connection:
        for statement in OLD_ROWS:
            connection.execute(text(statement))
    migrate(empty)
    with empty.connect() as connection:
        rows = connection.execute(select(Finding.label, Finding.score, Finding.box_score, Finding.reported))
        assert rows.all() == [("Edema", 0.25, None, True)]
    migrate(empty, "0001")
    with empty.connect() as connection:
        kept = connection.execute(text("SELECT label, score, x_max FROM finding")).all()
    assert kept == [("Edema", 0.25, 3.5)]
    migrate(empty, "base")


def test_replaced_deliveries_were_refused_before_that_was_known(empty: Engine) -> None:
    migrate(empty, "0002")
    with empty.begin() as connection:
        for statement in (*OLD_ROWS[:-1], *OLD_DELIVERY):
            connection.execute(text(statement))
        with pytest.raises(IntegrityError), connection.begin_nested():
            connection.execute(text("UPDATE delivery SET state = 'replaced'"))
    migrate(empty)
    with empty.begin() as connection:
        connection.execute(text("UPDATE delivery SET state = 'replaced'"))
        with pytest.raises(IntegrityError), connection.begin_nested():
            connection.execute(text("UPDATE delivery SET state = 'lost'"))
    migrate(empty, "0002")
    with empty.connect() as connection:
        kept = connection.execute(text("SELECT state, destination FROM delivery")).all()
    assert kept == [("refused", "A@b:1")]
    migrate(empty, "base")


def test_a_database_of_a_newer_version_is_refused_and_left_alone(empty: Engine) -> None:
    migrate(empty)
    with empty.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    for attempt in (lambda: migrate(empty), lambda: pending(empty), lambda: migrate(empty, "base")):
        with pytest.raises(SettingsError, match=r"newer version of the node \(schema 9999\)"):
            attempt()
    with empty.begin() as connection:
        connection.execute(text(f"UPDATE alembic_version SET version_num = '{NEWEST}'"))
    with pytest.raises(SettingsError, match=r"cannot be migrated: .*'9999'"):
        migrate(empty, "9999")


def test_a_database_without_tables_says_what_to_do(settings: Settings) -> None:
    settings.data_dir.mkdir()
    records = Records.open(settings)
    migrate(records.engine)
    migrate(records.engine, "base")
    with pytest.raises(SettingsError, match="no tables yet: run `litegpt-node migrate`"):
        records.require_schema()
    records.close()


def test_sqlite_is_set_up_to_survive_a_power_cut(settings: Settings, tmp_path: Path) -> None:
    records = Records.open(settings)
    with records.reading() as session:
        if records.engine.dialect.name == "sqlite":
            pragmas = ("journal_mode", "synchronous", "foreign_keys")
            values = [session.execute(text(f"PRAGMA {name}")).scalar_one() for name in pragmas]
            assert values == ["wal", 2, 1]
    assert durability_complaint(records.engine) is None
    records.close()


def test_schemas_are_those_of_the_steps_in_their_order() -> None:
    config = Config()
    config.set_main_option("script_location", str(VERSIONS.parent))
    steps = ScriptDirectory.from_config(config).walk_revisions()
    assert schema.revisions() == tuple(step.revision for step in steps)[::-1]
    assert schema.newest() == NEWEST
    assert schema.is_older("0001") and not schema.is_older(NEWEST) and not schema.is_known("9999")


def test_a_database_s_schema_is_what_alembic_says(empty: Engine) -> None:
    for revision in ("head", "0012", "base"):
        migrate(empty, revision)
        with empty.connect() as connection:
            alembics = MigrationContext.configure(connection).get_current_revision()
            assert schema.revision_of(connection) == alembics
