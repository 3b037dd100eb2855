"""All processes of a node go by one clock: with PostgreSQL by its, whatever their machines' clocks say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from service import checks
from service.errors import SettingsError
from service.records import clock, database
from service.records.clock import Clock
from service.records.database import Records, utc_now
from service.settings import load_settings


class _WrongMachine(datetime):
    """Whose clock is a day ahead."""

    @classmethod
    def now(cls, tz=None):  # type: ignore[no-untyped-def,override]
        return datetime.now(tz) + timedelta(days=1)


def test_a_machine_whose_clock_is_wrong_follows_the_database(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Clock()
    for module in (clock, database):
        monkeypatch.setattr(module, "CLOCK", own)
    monkeypatch.setattr(clock, "datetime", _WrongMachine)
    true = datetime.now(UTC)
    assert utc_now() - true > timedelta(hours=23), "nobody has been asked"
    settings = load_settings(database_url=postgres_url)
    records = Records.open(settings)
    with records.reading() as session:
        session.connection()
    records.close()
    assert abs(utc_now() - true) < timedelta(minutes=1)
    with pytest.raises(SettingsError, match=r"this machine's clock is 8\d{4}\.\d s ahead of the database's"):
        checks.clock(settings)


def test_clocks_that_go_alike_are_no_complaint(postgres_url: str, tmp_path: Path) -> None:
    assert "the database's" in checks.clock(load_settings(database_url=postgres_url))
    assert checks.clock(load_settings(data_dir=tmp_path)) == "this machine's"


def test_what_the_database_said_is_carried_on_and_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = 100.0
    monkeypatch.setattr(clock.time, "monotonic", lambda: seconds)
    own, said = Clock(), datetime(2026, 1, 1, tzinfo=UTC)
    assert own.is_stale
    own.set(said)
    seconds += 10
    assert (own.now() - said, own.is_stale) == (timedelta(seconds=10), False)
    seconds += clock.ASKED_EVERY_SECONDS
    assert own.is_stale
