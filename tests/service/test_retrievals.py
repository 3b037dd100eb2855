"""Retrieval jobs in the records, on both databases: claims, leases, failures, and what an admin does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from service.errors import LeaseLost, NodeError
from service.records import retrieval_jobs, retrievals
from service.records.database import Records
from service.records.job_progress import progress_of
from service.records.retrieval_jobs import JobView
from service.records.retrievals import FAILURES_IN_A_ROW, JobClaim, Outcome, StudyClaim
from service.records.retry import Retry
from service.records.states import RetrievalState
from service.records.tables import RetrievalStudy
from service.wire.query import FoundStudy

NOW = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
LEASE = timedelta(seconds=60)
RETRY = Retry(timedelta(seconds=10), timedelta(seconds=10), maximum_attempts=3)
DONE = Outcome(RetrievalState.DONE, 2, 2)


def after(**times: float) -> datetime:
    return NOW + timedelta(**times)


def _job(records: Records, window: str = "") -> int:
    with records.writing() as session:
        return retrieval_jobs.make_job(
            session,
            source="PACS@host:104",
            filters='{"patient_id": "P1"}',
            method="move",
            again=False,
            rate_per_hour=0,
            daily_window=window,
            now=NOW,
        )


def _claim(records: Records, at: datetime = NOW, closed: tuple[str, ...] = ()) -> JobClaim | None:
    return retrievals.claim(
        records, now=at, lease=LEASE, is_open=lambda window: window not in closed, retry=RETRY
    )


def _study(records: Records, at: datetime = NOW) -> StudyClaim:
    claim = _claim(records, at)
    assert isinstance(claim, StudyClaim)
    return claim


def _found(*numbers: int) -> list[FoundStudy]:
    return [FoundStudy(f"1.2.{number}", f"A{number}", "20250101", ("CR",), 1) for number in numbers]


def _filled(records: Records, *numbers: int) -> int:
    """A job that has these studies, and has found everything."""
    job_id = _job(records)
    claim = _claim(records)
    assert claim is not None and claim.job_id == job_id and not isinstance(claim, StudyClaim)
    retrievals.add_found(records, claim, _found(*numbers), NOW, 1)
    retrievals.found_all(records, claim, NOW)
    return job_id


def _view(records: Records, job_id: int) -> JobView:
    with records.reading() as session:
        return retrieval_jobs.show_job(session, job_id)


def _counts(records: Records, job_id: int) -> dict[str, int]:
    return {state: count for state, count in _view(records, job_id).counts.items() if count}


def _fail(records: Records, claim: StudyClaim, at: datetime = NOW, *, for_good: bool = False) -> None:
    retrievals.fail(records, claim, "why", (2, 1), for_good=for_good, retry=RETRY, now=at, next_at=at)


def test_a_job_is_found_then_worked_off_study_by_study(records: Records) -> None:
    job_id = _filled(records, 1, 2)
    for number in (1, 2):
        claim = _study(records)
        assert claim.study_instance_uid == f"1.2.{number}"
        assert _claim(records) is None
        retrievals.finish(records, claim, DONE, NOW, NOW)
    assert _claim(records) is None
    view = _view(records, job_id)
    assert (view.state, view.finished_at, view.open, view.counts["done"]) == ("done", NOW, 0, 2)


def test_what_is_found_twice_is_there_once_and_keeps_its_state(records: Records) -> None:
    _job(records)
    claim = _claim(records)
    assert claim is not None
    retrievals.add_found(records, claim, _found(*range(1200)), NOW, 0)
    retrievals.add_found(records, claim, _found(*range(1000, 1300)), NOW, 1)
    assert _counts(records, claim.job_id) == {"waiting": 1300}
    later = _claim(records, after(minutes=2))
    assert later is not None and later.questions_answered == 1
    with pytest.raises(LeaseLost):
        retrievals.add_found(records, claim, _found(9999), NOW, 2)
    assert _counts(records, claim.job_id) == {"waiting": 1300}


def test_the_next_study_waits_for_the_rate(records: Records) -> None:
    _filled(records, 1, 2)
    retrievals.finish(records, _study(records), DONE, NOW, after(seconds=30))
    assert _claim(records, after(seconds=29)) is None
    assert _study(records, after(seconds=30)).study_instance_uid == "1.2.2"


def test_a_job_whose_window_is_closed_lets_others_go_first(records: Records) -> None:
    _job(records, "20:00-06:00")
    other = _job(records)
    claim = _claim(records, closed=("20:00-06:00",))
    assert claim is not None and claim.job_id == other
    assert _claim(records, closed=("20:00-06:00",)) is None
    assert _claim(records) is not None


def test_a_study_whose_retriever_was_killed_is_taken_up_first_and_only_then(records: Records) -> None:
    _filled(records, 1, 2)
    lost = _study(records)
    assert _claim(records, after(seconds=59)) is None
    retrievals.renew(records, lost, after(seconds=90))
    assert _claim(records, after(seconds=61)) is None
    again = _study(records, after(seconds=90))
    assert (again.study_instance_uid, again.study_attempt, again.study_failures) == ("1.2.1", 2, 1)
    writes: tuple[Callable[[], object], ...] = (
        lambda: retrievals.finish(records, lost, DONE, NOW, NOW),
        lambda: _fail(records, lost),
        lambda: retrievals.renew(records, lost, NOW),
        lambda: retrievals.give_back(records, lost, NOW),
        lambda: retrievals.pause(records, lost, "why", NOW),
        lambda: retrievals.await_peer(records, lost, "why", RETRY, NOW),
    )
    for late in writes:
        with pytest.raises(LeaseLost):
            late()
    retrievals.finish(records, again, DONE, NOW, NOW)
    assert _study(records).study_instance_uid == "1.2.2"


def test_a_study_that_kills_its_retrievers_fails_and_the_next_goes_on(records: Records) -> None:
    job_id = _filled(records, 1, 2)
    for attempt in range(RETRY.maximum_attempts):
        assert _study(records, after(hours=attempt)).study_instance_uid == "1.2.1"
    assert _study(records, after(hours=9)).study_instance_uid == "1.2.2"
    with records.reading() as session:
        (failed,) = retrieval_jobs.failed_studies(session, job_id)
    assert failed.error == "no retriever finished it in 3 attempts"


def test_a_study_is_tried_again_after_a_wait_while_others_go_on_and_fails_in_the_end(
    records: Records,
) -> None:
    job_id = _filled(records, 1, 2)
    _fail(records, _study(records))
    retrievals.finish(records, _study(records), DONE, NOW, NOW)
    assert _claim(records) is None
    assert _view(records, job_id).state == "running"
    assert _claim(records, after(seconds=4)) is None
    for attempt in (1, 2):
        _fail(records, _study(records, after(seconds=20 * attempt)), after(seconds=20 * attempt))
    assert _claim(records, after(hours=1)) is None
    assert _view(records, job_id).state == "done"
    with records.reading() as session:
        (failed,) = retrieval_jobs.failed_studies(session, job_id)
        row = session.scalars(select(RetrievalStudy).where(RetrievalStudy.state == "failed")).one()
    assert (failed.study_instance_uid, failed.attempts, failed.error) == ("1.2.1", 3, "why")
    assert (row.images_expected, row.images_come) == (2, 1)


def test_what_is_refused_for_good_is_not_tried_again(records: Records) -> None:
    job_id = _filled(records, 1)
    _fail(records, _study(records), for_good=True)
    assert _counts(records, job_id) == {"failed": 1}


def test_a_peer_that_is_away_is_nobodys_failure(records: Records) -> None:
    job_id = _filled(records, 1)
    for attempt in range(20):
        at = after(minutes=attempt)
        retrievals.await_peer(records, _study(records, at), "no answer", RETRY, at)
        assert _claim(records, at) is None
    view = _view(records, job_id)
    assert (view.state, view.error) == ("running", "no answer")
    claim = _study(records, after(hours=1))
    assert (claim.study_attempt, claim.study_failures) == (21, 0)
    retrievals.finish(records, claim, DONE, NOW, NOW)
    assert _view(records, job_id).error == ""


def test_many_failures_in_a_row_pause_a_job(records: Records) -> None:
    job_id = _filled(records, *range(30))
    for _ in range(FAILURES_IN_A_ROW - 1):
        _fail(records, _study(records), for_good=True)
    retrievals.finish(records, _study(records), DONE, NOW, NOW)
    for number in range(FAILURES_IN_A_ROW):
        assert _view(records, job_id).state == "running", number
        _fail(records, _study(records), for_good=True)
    assert _claim(records) is None
    view = _view(records, job_id)
    assert (view.state, view.error) == ("paused", "10 failures in a row, the last: why")
    with records.writing() as session:
        retrieval_jobs.resume(session, job_id, NOW)
    _fail(records, _study(records), for_good=True)
    assert _view(records, job_id).state == "running"


def test_a_job_that_a_peer_refuses_waits_for_an_admin_with_its_study(records: Records) -> None:
    job_id = _filled(records, 1)
    retrievals.pause(records, _study(records), "not set up", NOW)
    assert _claim(records, after(hours=9)) is None
    assert (_view(records, job_id).state, _view(records, job_id).error) == ("paused", "not set up")
    with records.writing() as session:
        retrieval_jobs.resume(session, job_id, NOW)
    claim = _study(records)
    assert (claim.study_attempt, claim.study_failures) == (2, 0)


def test_pausing_stops_the_finding_and_resuming_goes_on_with_it(records: Records) -> None:
    job_id = _job(records)
    claim = _claim(records)
    assert claim is not None
    retrievals.add_found(records, claim, _found(1), NOW, 3)
    with records.writing() as session:
        retrieval_jobs.pause(session, job_id)
    for write in (
        lambda: retrievals.add_found(records, claim, _found(2), NOW, 4),
        lambda: retrievals.found_all(records, claim, NOW),
    ):
        with pytest.raises(LeaseLost):
            write()
    assert _claim(records, after(hours=1)) is None
    with records.writing() as session:
        retrieval_jobs.resume(session, job_id, NOW)
    again = _claim(records)
    assert again is not None and again.questions_answered == 3 and not isinstance(again, StudyClaim)


def test_a_paused_job_ends_the_study_in_hand_and_resuming_does_not_take_it_twice(records: Records) -> None:
    job_id = _filled(records, 1, 2)
    claim = _study(records)
    with records.writing() as session:
        retrieval_jobs.pause(session, job_id)
        retrieval_jobs.resume(session, job_id, after(seconds=1))
    assert _claim(records, after(seconds=2)) is None
    with records.writing() as session:
        retrieval_jobs.pause(session, job_id)
    retrievals.finish(records, claim, DONE, NOW, NOW)
    assert _counts(records, job_id) == {"done": 1, "waiting": 1}
    assert _claim(records, after(hours=1)) is None
    assert _view(records, job_id).state == "paused"


def test_a_cancelled_job_is_over(records: Records) -> None:
    job_id = _filled(records, 1, 2)
    claim = _study(records)
    with records.writing() as session:
        retrieval_jobs.cancel(session, job_id, NOW)
    retrievals.finish(records, claim, DONE, NOW, NOW)
    assert _claim(records, after(hours=1)) is None
    assert _view(records, job_id).state == "cancelled"
    acts: tuple[Callable[[Session], object], ...] = (
        lambda session: retrieval_jobs.resume(session, job_id, NOW),
        lambda session: retrieval_jobs.pause(session, job_id),
        lambda session: retrieval_jobs.cancel(session, job_id, NOW),
        lambda session: retrieval_jobs.retry_failed(session, job_id, NOW),
        lambda session: retrieval_jobs.show_job(session, 99_999),
    )
    for act in acts:
        with pytest.raises(NodeError), records.writing() as session:
            act(session)


def test_failed_studies_are_tried_again_when_an_admin_says_so(records: Records) -> None:
    job_id = _filled(records, 1, 2)
    _fail(records, _study(records), for_good=True)
    retrievals.finish(records, _study(records), DONE, NOW, NOW)
    assert _claim(records) is None
    with records.writing() as session:
        assert retrieval_jobs.retry_failed(session, job_id, after(hours=1)) == 1
    claim = _study(records, after(hours=1))
    assert (claim.study_instance_uid, claim.study_failures) == ("1.2.1", 0)
    retrievals.finish(records, claim, DONE, NOW, NOW)
    assert _claim(records, after(hours=1)) is None
    assert _counts(records, job_id) == {"done": 2}
    with records.writing() as session:
        assert retrieval_jobs.retry_failed(session, job_id, NOW) == 0
    assert _view(records, job_id).state == "done"


def test_accession_numbers_without_a_study_are_named(records: Records) -> None:
    job_id = _filled(records, 1, 2)
    with records.reading() as session:
        assert retrieval_jobs.not_found(session, job_id, ["a1", "A3", "A2"]) == ["A3"]


def test_many_retrievers_at_once_do_no_study_twice(records: Records) -> None:
    jobs = [_job(records) for _ in range(3)]
    claims = [claim for _ in jobs if (claim := _claim(records))]
    for number, claim in enumerate(claims):
        retrievals.add_found(records, claim, _found(*range(10 * number, 10 * number + 10)), NOW, 1)
        retrievals.found_all(records, claim, NOW)
    done: list[str] = []

    def work() -> None:
        while any(_view(records, job_id).is_active for job_id in jobs):
            claim = _claim(records)
            if isinstance(claim, StudyClaim):
                done.append(claim.study_instance_uid)
                retrievals.finish(records, claim, DONE, NOW, NOW)

    with ThreadPoolExecutor(4) as pool:
        for worker in [pool.submit(work) for _ in range(4)]:
            worker.result()
    assert Counter(done) == Counter(f"1.2.{number}" for number in range(30))


def _progress(records: Records, job_id: int, at: datetime) -> JobView:
    with records.reading() as session:
        counted = progress_of(session, None, at)
        assert counted == progress_of(session, [job_id], at)
        return retrieval_jobs.show_job(session, job_id, progress=counted)


def test_progress_and_pace_are_counted(records: Records) -> None:
    job_id = _filled(records, 1, 2, 3, 4)
    retrievals.finish(records, _study(records), DONE, after(minutes=1), NOW)
    _fail(records, _study(records), after(minutes=2), for_good=True)
    view = _progress(records, job_id, after(minutes=2))
    assert view.counts == {"waiting": 2, "running": 0, "done": 1, "failed": 1, "skipped": 0}
    assert (view.progress.images_expected, view.progress.images_come) == (4, 3)
    # Two in the two minutes since everything was found.
    assert view.an_hour(after(minutes=2)) == 60
    assert view.time_left(after(minutes=2)) == timedelta(minutes=2)
    retrievals.finish(records, _study(records, after(minutes=20)), DONE, after(minutes=20), NOW)
    view = _progress(records, job_id, after(minutes=20))
    # Of the last quarter of an hour there is one.
    assert (view.progress.recent, view.an_hour(after(minutes=20)), view.open) == (1, 4, 1)
    assert view.time_left(after(minutes=20)) == timedelta(minutes=15)
    assert _progress(records, job_id, after(hours=2)).time_left(after(hours=2)) is None


def test_jobs_and_failed_studies_are_paged_by_key(records: Records) -> None:
    job_id = _filled(records, *range(8))
    for _ in range(8):
        _fail(records, _study(records), for_good=True)
    others = [_job(records) for _ in range(3)]
    with records.reading() as session:
        first = list(retrieval_jobs.failed_studies(session, job_id, 5))
        rest = list(retrieval_jobs.failed_studies(session, job_id, 5, after=first[-1].id))
        assert list(retrieval_jobs.failed_studies(session, others[0])) == []
        jobs = [job.id for job in retrieval_jobs.list_jobs(session, 2)]
        older = [job.id for job in retrieval_jobs.list_jobs(session, 9, before=jobs[-1])]
    assert [one.study_instance_uid for one in first + rest] == [f"1.2.{number}" for number in range(8)]
    assert jobs + older == [*others[::-1], job_id]
