"""On PostgreSQL a migration that waits for a long query keeps nobody waiting behind it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from sqlalchemy import Connection, text

from service.errors import SettingsError
from service.records.migrate import migrate
from tests.service.test_migrations import NEWEST
from tests.upgrades.conftest import Database
from tests.upgrades.rows import rows_of
from tests.waiting import wait_until

pytestmark = pytest.mark.parametrize("database", ["postgresql"], indirect=True)

_RECEIVED = "UPDATE instance SET reason = 'received meanwhile' WHERE id = 3"
_WAITS = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'instance'::regclass"

_DELIVERIES_HELD = """
    SELECT (SELECT count(*) FROM pg_locks held WHERE held.pid = waits.pid AND held.granted
            AND held.relation = 'delivery'::regclass AND held.mode = 'AccessExclusiveLock')
    FROM pg_locks waits WHERE NOT waits.granted AND waits.relation = 'instance'::regclass
"""


@pytest.fixture
def released(database: Database) -> Database:
    """A database of the first release."""
    database.make("0012", rows_of("0012"))
    return database


@contextmanager
def _long_query(database: Database) -> Iterator[Connection]:
    """A transaction that has read images, and stays open."""
    with database.records.engine.begin() as connection:
        connection.execute(text("SELECT count(*) FROM instance"))
        yield connection


def test_writers_go_on_while_a_migration_waits(released: Database) -> None:
    engine = released.records.engine
    with ThreadPoolExecutor(1) as admin:
        with _long_query(released) as reader:
            migrating: Future[object] = admin.submit(migrate, engine)
            wait_until(lambda: reader.execute(text(_WAITS)).scalar_one(), 30, "migration that waits")
            with engine.begin() as writer:
                writer.execute(text("SET LOCAL statement_timeout = '30s'"))
                assert writer.execute(text(_RECEIVED)).rowcount == 1
            assert not migrating.done()
        assert migrating.result(60) == ("0012", NEWEST)


def test_a_migration_that_waits_for_images_holds_no_deliveries(released: Database) -> None:
    """A listener that has recorded an image and comes to pass it on would wait for it: a deadlock."""
    engine = released.records.engine
    migrate(engine, "0014")
    with ThreadPoolExecutor(1) as admin:
        with engine.begin() as listener:
            listener.execute(text(_RECEIVED))
            migrating: Future[object] = admin.submit(migrate, engine)
            (held,) = wait_until(lambda: listener.execute(text(_DELIVERIES_HELD)).all(), 30, "that waits")
            assert held == (0,)
        assert migrating.result(60) == ("0014", NEWEST)


def test_a_migration_that_may_not_wait_says_why_and_changes_nothing(released: Database) -> None:
    before = released.rows()
    with _long_query(released), pytest.raises(SettingsError, match="while a long query, such as a backup's"):
        migrate(released.records.engine, "0014", patience_seconds=0)
    # 0013 asks for no lock on images, and is a step of its own.
    assert set(released.rows()) == {*before, "peer_seen"}
    assert migrate(released.records.engine) == ("0013", NEWEST)


def test_two_migrations_at_once_are_one_after_the_other(released: Database) -> None:
    engine = released.records.engine
    with ThreadPoolExecutor(2) as admins:
        for done in [admins.submit(migrate, engine) for _ in range(2)]:
            assert done.result(60)[1] == NEWEST
