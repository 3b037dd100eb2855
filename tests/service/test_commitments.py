"""Transactions of storage commitment in the records, on both databases."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import select, update
from sqlalchemy.event import listen

from service.archive import Archive
from service.errors import LeaseLost, NotThere
from service.peers import Destination
from service.records import commitments, safekeeping
from service.records.commitments import Report, Transaction
from service.records.database import Records, utc_now
from service.records.intake import Receiver
from service.records.retry import Retry
from service.records.safekeeping import Judged
from service.records.states import AnalysisState, DeliveryState
from service.records.tables import Delivery, Instance
from tests.images import DX, make_radiograph
from tests.service.conftest import incoming
from tests.service.study_rows import AnalysisRow, DeliveryRow, ImageRow, StudyRow, ago, write

HOUR = timedelta(hours=1)
RETRY = Retry(timedelta(0), timedelta(0), 2)
PACS = Destination.parse("PACS@host:104")
WAITING = DeliveryRow(DeliveryState.SENT, made_at=ago(days=1), awaits_commitment=True)


@pytest.fixture
def transaction(records: Records) -> Transaction:
    """For two results and an image, beside a result that is not to be asked for."""
    deliveries = (WAITING, WAITING, DeliveryRow(DeliveryState.SENT))
    row = StudyRow((AnalysisRow(AnalysisState.DONE, deliveries),), (ImageRow(forwards=(WAITING,)),))
    with records.writing() as session:
        write(session, row)
    assert commitments.destinations_due(records) == [PACS]
    begun = commitments.begin(records, PACS, HOUR)
    assert begun is not None
    return begun


def _states(records: Records) -> list[tuple[str, bool]]:
    with records.reading() as session:
        rows = session.scalars(select(Delivery).order_by(Delivery.id))
        return [(row.state, row.commitment_due_at is not None) for row in rows]


def test_what_is_asked_for_is_not_due_until_the_time_out(records: Records, transaction: Transaction) -> None:
    assert (len(transaction.objects), transaction.asks) == (3, 1)
    assert commitments.begin(records, PACS, HOUR) is None
    with records.reading() as session:
        assert commitments.count_due(session) == 0
        assert {to: one.count for to, one in commitments.awaited(session).items()} == {PACS.address: 3}


def test_each_object_is_what_the_report_says_of_it(records: Records, transaction: Transaction) -> None:
    one, two, three = (uid for _, uid in transaction.objects)
    report = Report(transaction.uid, frozenset({one, "1.9.9"}), {two: 0x0110, "1.9.8": 0x0110})
    with pytest.raises(NotThere):
        commitments.take(records, report, "OTHER", RETRY)
    for _ in range(2):
        commitments.take(records, report, "PACS", RETRY)
        assert sorted(_states(records)) == [
            *(("committed", False), ("due", False), ("sent", False), ("sent", True))
        ]
    assert commitments.is_answered(records, transaction.uid)
    commitments.take(records, Report(transaction.uid, frozenset({two, three}), {}), "PACS", RETRY)
    assert sorted(_states(records)) == [
        *(("committed", False), ("committed", False), ("due", False), ("sent", False))
    ]


def test_what_cannot_be_asked_waits_and_what_is_not_offered_does_not(
    records: Records, transaction: Transaction
) -> None:
    commitments.put_off(records, transaction, "is away", RETRY)
    again = commitments.begin(records, PACS, HOUR)
    assert again is not None
    assert (again.objects, again.asks) == (transaction.objects, 2)
    commitments.give_up(records, transaction, "not offered")  # of a transaction that another has replaced
    assert _states(records).count(("sent", True)) == 3
    commitments.give_up(records, again, "not offered")
    assert _states(records) == [("sent", False)] * 4


def test_a_destination_that_is_not_to_be_asked_is_left(records: Records, transaction: Transaction) -> None:
    assert commitments.ask_no_more(records, PACS) == len(transaction.objects)
    assert _states(records) == [("sent", False)] * 4


def test_a_promise_is_written_once_and_by_one_worker(
    records: Records, receiver: Receiver, archive: Archive
) -> None:
    image = make_radiograph()
    receiver.take(incoming(archive, image))
    kept, unknown = Judged(DX, str(image.SOPInstanceUID)), Judged(DX, "1.2.3")
    safekeeping.take(records, "CT1", "2.25.1", [kept, unknown])
    with records.reading() as session:
        assert safekeeping.count_due(session) == 1
    request = safekeeping.claim(records, HOUR)
    assert request is not None and safekeeping.claim(records, HOUR) is None
    judged = safekeeping.judge(records, archive, request, HOUR)
    assert judged == (kept, Judged(DX, "1.2.3", safekeeping.NO_SUCH_OBJECT))
    safekeeping.postpone(records, request, "is away", RETRY)
    second = safekeeping.claim(records, HOUR)
    assert second is not None
    assert (second.attempt, second.objects, second.is_judged) == (2, judged, True)
    with pytest.raises(LeaseLost):
        safekeeping.told(records, request)
    with records.writing() as session:
        session.execute(update(Instance).values(committed_until=utc_now() - HOUR))
    assert safekeeping.judge(records, archive, second, HOUR) == judged  # a second report is no second promise
    with records.reading() as session:
        (until,) = session.scalars(select(Instance.committed_until))
        assert until is not None and until < utc_now()
    safekeeping.told(records, second)
    assert safekeeping.claim(records, HOUR) is None


def test_what_waits_is_found_without_going_through_all_that_was_sent(records: Records) -> None:
    """SQLite has no statistics, and would take the index of states: it is asked each second."""
    if records.engine.dialect.name != "sqlite":
        return
    questions: list[str] = []
    listen(records.engine, "before_cursor_execute", lambda *event: questions.append(event[2]))
    with records.reading() as session:
        commitments.count_due(session)
        commitments.awaited(session)
        asked = [one for one in questions if "commitment_due_at" in one]
        assert len(asked) == 2
        for question in asked:
            values = ("x",) * question.count("?")
            plan = session.connection().exec_driver_sql(f"EXPLAIN QUERY PLAN {question}", values).all()
            assert "INDEX ix_delivery_uncommitted" in str(plan), plan  # which holds what waits, and no more
