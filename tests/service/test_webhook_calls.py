"""Webhook calls as work: made once, claimed once, written by whoever holds them, on both databases."""

from __future__ import annotations

import threading
from collections import Counter
from datetime import timedelta

import pytest
from sqlalchemy import select

from service.errors import LeaseLost
from service.records import webhook_calls
from service.records.database import Records
from service.records.retry import Retry
from service.records.states import AnalysisState
from service.records.tables import Analysis, WebhookCall
from tests.service.study_rows import AnalysisRow, StudyRow, write

NOW = timedelta(0)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


def _called(records: Records, studies: int = 1, times: int = 1) -> None:
    """Studies, each with an analysis that is to be told to one webhook."""
    with records.writing() as session:
        for _ in range(studies):
            write(session, StudyRow((AnalysisRow(AnalysisState.DONE),)))
        for analysis in session.scalars(select(Analysis)):
            for _ in range(times):
                webhook_calls.call(session, analysis.id, "radiology")


def _row(records: Records) -> WebhookCall:
    with records.reading() as session:
        return session.scalars(select(WebhookCall)).one()


def test_an_analysis_is_told_to_a_webhook_once(records: Records) -> None:
    _called(records, times=2)
    (claim,) = webhook_calls.claim(records, limit=9, lease=MINUTE)
    webhook_calls.sent(records, claim)
    with records.writing() as session:
        webhook_calls.call(session, claim.analysis_id, "radiology")
        assert webhook_calls.count_due(session) == 0
    assert _row(records).state == "sent"


def test_a_call_that_is_not_committed_is_not_made(records: Records) -> None:
    _called(records)
    with records.rehearsing() as session:
        analysis = session.scalars(select(Analysis)).one()
        webhook_calls.call(session, analysis.id, "another")
    assert _row(records).webhook == "radiology"


def test_a_lease_that_ended_gives_it_to_the_next_and_the_first_may_not_write(records: Records) -> None:
    _called(records)
    (first,) = webhook_calls.claim(records, limit=9, lease=NOW)
    (second,) = webhook_calls.claim(records, limit=9, lease=MINUTE)
    assert webhook_calls.claim(records, limit=9, lease=MINUTE) == []
    for write_ in (
        lambda: webhook_calls.begin(records, first, "", MINUTE),
        lambda: webhook_calls.sent(records, first),
        lambda: webhook_calls.refused(records, first, "no"),
        lambda: webhook_calls.postpone(records, first, "not now", Retry(NOW, NOW, 1)),
    ):
        with pytest.raises(LeaseLost):
            write_()
    assert first.message_id == second.message_id
    webhook_calls.postpone(records, second, "not now", Retry(HOUR, HOUR, 1))
    row = _row(records)
    assert (row.state, row.attempt, row.error) == ("due", 2, "not now")
    assert webhook_calls.claim(records, limit=9, lease=MINUTE) == []


def test_many_workers_share_the_calls_without_making_one_twice(records: Records) -> None:
    _called(records, studies=16)
    taken: Counter[int] = Counter()
    start = threading.Barrier(6)

    def work() -> None:
        start.wait()
        while claims := webhook_calls.claim(records, limit=2, lease=MINUTE):
            taken.update(claim.call_id for claim in claims)

    workers = [threading.Thread(target=work) for _ in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(taken) == 16
    assert set(taken.values()) == {1}
