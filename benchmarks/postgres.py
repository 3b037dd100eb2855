"""A PostgreSQL for a benchmark: one that a URL names, else one that runs as long as the benchmark does."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from sqlalchemy import URL, create_engine, make_url, text

from service.records.database import Records
from service.records.migrate import migrate
from service.settings import load_settings
from tests.processes import running
from tests.services.postgres import private_server

OPTIONS: Final = {"shared_buffers": "2GB", "max_wal_size": "8GB"}
"""On top of PostgreSQL's own, as a database of this size would have them; ``fsync`` is on in these."""

_TOLD: Final = ("server_version", "fsync", "synchronous_commit", "shared_buffers", "max_wal_size")


@contextmanager
def server(url: str | None) -> Iterator[URL]:
    """The server that is named, else a new one in a folder of its own, removed afterwards."""
    if url:
        yield make_url(url)
        return
    with private_server() as own:
        options = [part for name, value in OPTIONS.items() for part in ("-c", f"{name}={value}")]
        own = replace(own, command=[*own.command, *options])
        log = own.folder.with_suffix(".log")
        with running(
            own.command,
            log=log,
            folder=own.folder,
            user=own.user,
            stop_signal=signal.SIGINT,
            stop_timeout_seconds=120,
        ) as process:
            process.wait_until(own.answers, 30, "PostgreSQL server")
            yield own.url
        log.unlink()


@contextmanager
def database(server_url: URL, name: str, *, kept: bool = False) -> Iterator[Records]:
    """A database of that name with the node's tables: the one that is there, else a new one.

    Args:
        server_url: Where.
        name: Its name.
        kept: Whether it stays there afterwards.
    """
    admin = create_engine(server_url, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        there = connection.execute(text("SELECT 1 FROM pg_database WHERE datname = :name"), {"name": name})
        if there.first() is None:
            connection.execute(text(f'CREATE DATABASE "{name}"'))
    records = opened(server_url.set(database=name))
    try:
        migrate(records.engine)
        yield records
    finally:
        records.close()
        if not kept:
            with admin.connect() as connection:
                connection.execute(text(f'DROP DATABASE "{name}" WITH (FORCE)'))
        admin.dispose()


def opened(url: URL) -> Records:
    """The records at an address."""
    address = url.render_as_string(hide_password=False)
    return Records.open(load_settings(data_dir=Path("/nonexistent"), database_url=address))


def describe(url: URL) -> dict[str, Any]:
    """What it is set to, for JSON."""
    engine = create_engine(url)
    with engine.connect() as connection:
        told = {name: connection.execute(text(f"SHOW {name}")).scalar_one() for name in _TOLD}
    engine.dispose()
    return told
