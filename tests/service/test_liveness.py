"""A connection that the server has ended is not used again, and one that was used just now is not asked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url, text

from service.records import liveness
from service.records.database import Records
from service.settings import load_settings
from tests.waiting import wait_until


@pytest.fixture
def records(postgres_url: str) -> Iterator[Records]:
    opened = Records.open(load_settings(database_url=postgres_url))
    yield opened
    opened.close()


@pytest.fixture
def asked(records: Records, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The connections of which the server was asked, one by one."""
    dialect: Any = records.engine.dialect
    connections: list[object] = []
    ping = dialect.do_ping

    def note(connection: object) -> bool:
        connections.append(connection)
        return bool(ping(connection))

    monkeypatch.setattr(dialect, "do_ping", note)
    return connections


def _session_of(records: Records) -> int:
    with records.reading() as session:
        return int(session.execute(text("SELECT pg_backend_pid()")).scalar_one())


def test_what_was_used_just_now_is_used_again_without_a_question(
    records: Records, asked: list[object]
) -> None:
    assert len({_session_of(records) for _ in range(5)}) == 1
    assert asked == []


def test_what_was_idle_for_a_while_is_asked(
    records: Records, asked: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = _session_of(records)
    monkeypatch.setattr(liveness, "ASKED_AFTER_SECONDS", 0.0)
    assert _session_of(records) == first
    assert len(asked) == 1


@pytest.mark.parametrize("asked_after_seconds", [0.0, 1000.0], ids=["asked", "looked at"])
def test_what_the_server_has_ended_is_replaced(
    records: Records, postgres_url: str, monkeypatch: pytest.MonkeyPatch, asked_after_seconds: float
) -> None:
    monkeypatch.setattr(liveness, "ASKED_AFTER_SECONDS", asked_after_seconds)
    ended = _session_of(records)
    url = make_url(postgres_url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s)", (ended,))
        is_there = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s"
        wait_until(
            lambda: other.execute(is_there, (ended,)).fetchone() == (0,), 10, "end of the server's session"
        )
    assert _session_of(records) != ended


def test_what_we_have_closed_ourselves_is_replaced(records: Records) -> None:
    """As an impatient connection does."""
    closed = _session_of(records)
    with records.engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
    driver.pgconn.finish()
    assert _session_of(records) != closed
