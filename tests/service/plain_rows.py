"""All rows of a node's database by plain SQL, without any of the node's own code."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import psycopg
from sqlalchemy import make_url

Rows = dict[str, list[dict[str, Any]]]

_TABLES = ("study", "instance", "analysis", "analysis_image", "finding", "result", "delivery")


def plain_rows(url: str, tables: Sequence[str] = _TABLES) -> Rows:
    """These tables' rows, in the order of all their columns; times are aware, truths are bools."""
    sqlite = url.startswith("sqlite")
    rows = _sqlite(make_url(url).database or "", tables) if sqlite else _postgres(url, tables)
    return {table: sorted(found, key=_by_all_columns) for table, found in rows.items()}


def _by_all_columns(row: dict[str, Any]) -> str:
    return str(sorted(row.items()))


def _sqlite(file: str, tables: Sequence[str]) -> Rows:
    connection = sqlite3.connect(file)
    rows = {table: _sqlite_table(connection, table) for table in tables}
    connection.close()
    return rows


def _sqlite_table(connection: sqlite3.Connection, table: str) -> list[dict[str, Any]]:
    types = {row[1]: row[2] for row in connection.execute(f"PRAGMA table_info({table})")}
    cursor = connection.execute(f"SELECT * FROM {table}")
    names = [column[0] for column in cursor.description]
    return [{name: _typed(row[n], types[name]) for n, name in enumerate(names)} for row in cursor]


def _typed(value: Any, declared: str) -> Any:
    if value is None:
        return None
    if declared == "DATETIME":
        return datetime.fromisoformat(value).replace(tzinfo=UTC)
    return bool(value) if declared == "BOOLEAN" else value


def _postgres(url: str, tables: Sequence[str]) -> Rows:
    libpq = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(libpq) as connection:
        return {table: _postgres_table(connection, table) for table in tables}


def _postgres_table(connection: psycopg.Connection, table: str) -> list[dict[str, Any]]:
    cursor = connection.execute(f"SELECT * FROM {table}".encode())
    names = [column.name for column in cursor.description or ()]
    return [
        {name: value.astimezone(UTC) if isinstance(value, datetime) else value for name, value in pairs}
        for pairs in (zip(names, row, strict=True) for row in cursor)
    ]
