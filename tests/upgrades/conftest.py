"""A database of any schema, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import inspect, text

from service.records.database import Records
from service.records.migrate import migrate
from service.settings import Settings, load_settings
from tests.service.plain_rows import plain_rows
from tests.upgrades.rows import Row, Tables, inserts


@dataclass
class Database:
    """One that a node of some version left behind."""

    settings: Settings
    records: Records

    @property
    def kind(self) -> str:
        return self.records.engine.dialect.name

    def make(self, revision: str, rows: Tables) -> None:
        """Makes the schema of a revision, and writes rows as its code did."""
        migrate(self.records.engine, revision)
        with self.records.engine.begin() as connection:
            for statement, row in inserts(rows):
                connection.execute(text(statement), row)
            for table in rows if self.kind == "postgresql" else ():
                if "id" in rows[table][0]:
                    sequence = f"pg_get_serial_sequence('{table}', 'id')"
                    connection.execute(text(f"SELECT setval({sequence}, (SELECT max(id) FROM {table}))"))

    def rows(self) -> Tables:
        """Everything in it, read without the node's own code; tables without rows are left out."""
        tables = set(inspect(self.records.engine).get_table_names()) - {"alembic_version"}
        found = plain_rows(self.settings.sqlalchemy_url, sorted(tables))
        return {name: [_as_written(row) for row in rows] for name, rows in found.items() if rows}


def _as_written(row: Row) -> Row:
    def written(value: Any) -> Any:
        return value.strftime("%Y-%m-%d %H:%M:%S.%f") if isinstance(value, datetime) else value

    return {name: written(value) for name, value in row.items()}


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """Without any table."""
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else None
    settings = load_settings(data_dir=tmp_path / "node", database_url=url)
    records = Records.open(settings)
    yield Database(settings, records)
    if request.param == "postgresql":  # the schema is the module's
        migrate(records.engine, "base")
    records.close()
