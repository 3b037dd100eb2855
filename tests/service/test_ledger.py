"""What writes at the same time shares a commit, and answers for itself alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from sqlalchemy import Connection, event, insert, select

from service.errors import OutOfResources
from service.records.database import Records, utc_now
from service.records.ledger import Ledger
from service.records.states import StudyState
from service.records.tables import Study
from tests.waiting import wait_until


def _study(uid: str) -> Callable[[Connection], str]:
    def write(connection: Connection) -> str:
        now = utc_now()
        connection.execute(
            insert(Study).values(
                study_instance_uid=uid,
                state=StudyState.RECEIVING,
                receiving_since=now,
                last_eligible_at=now,
            )
        )
        return uid

    return write


def _uids(records: Records) -> set[str]:
    with records.reading() as session:
        return set(session.scalars(select(Study.study_instance_uid)))


@contextmanager
def _commits(records: Records) -> Iterator[list[object]]:
    seen: list[object] = []
    see = seen.append  # each look at a bound method makes another one
    event.listen(records.engine, "commit", see)
    yield seen
    event.remove(records.engine, "commit", see)


@contextmanager
def _while_one_writes(
    ledger: Ledger, entries: list[Callable[[Connection], str]]
) -> Iterator[list[Future[str]]]:
    """Entries that all came while a first one was being written; it is written when the block begins."""
    begun, goes_on = threading.Event(), threading.Event()

    def first(connection: Connection) -> str:
        begun.set()
        assert goes_on.wait(10)
        return _study("first")(connection)

    with ThreadPoolExecutor(len(entries) + 1) as threads:
        futures = [threads.submit(ledger.enter, first)]
        assert begun.wait(10)
        futures += [threads.submit(ledger.enter, entry) for entry in entries]
        if ledger._shares:
            wait_until(lambda: len(ledger._waiting) == len(entries), 10, "the others waiting")
        goes_on.set()
        yield futures


def test_what_comes_while_another_writes_shares_one_commit(records: Records) -> None:
    ledger = Ledger(records)
    uids = [f"1.{number}" for number in range(20)]
    with _commits(records) as commits, _while_one_writes(ledger, [_study(uid) for uid in uids]) as futures:
        assert [future.result() for future in futures] == ["first", *uids]
    assert _uids(records) == {"first", *uids}
    assert len(commits) == (2 if records.engine.dialect.name == "sqlite" else 21)


def test_one_that_fails_leaves_no_trace_and_the_others_are_written(records: Records) -> None:
    def fails(connection: Connection) -> str:
        _study("9.9")(connection)
        raise LookupError("its own")

    ledger = Ledger(records)
    ledger.enter(_study("0.0"))
    entries = [_study("1.1"), fails, _study("1.2"), _study("0.0")]
    with _while_one_writes(ledger, entries) as (first, one, failed, two, twice):
        assert (first.result(), one.result(), two.result()) == ("first", "1.1", "1.2")
        with pytest.raises(LookupError, match="its own"):
            failed.result()
        with pytest.raises(Exception, match=r"(?i)unique"):
            twice.result()
    assert _uids(records) == {"0.0", "first", "1.1", "1.2"}


def test_where_the_database_is_away_everybody_is_told(records: Records) -> None:
    def away(_: Connection) -> str:
        raise OutOfResources("away")

    entries = [_study("1.1"), away]
    with _while_one_writes(Ledger(records), entries) as (first, one, other):
        assert first.result() == "first"
        with pytest.raises(OutOfResources):
            other.result()
        if records.engine.dialect.name == "sqlite":
            with pytest.raises(OutOfResources):
                one.result()
    assert "1.1" not in _uids(records) or records.engine.dialect.name != "sqlite"


def test_what_is_returned_is_in_the_database(records: Records) -> None:
    """Seen by another connection, at the moment at which it is returned."""
    ledger = Ledger(records)

    def enter(number: int) -> bool:
        uid = ledger.enter(_study(f"1.{number}"))
        return uid in _uids(records)

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(enter, range(40)))
