"""Analyses and deliveries as work: claimed once, kept by lease, written only by whoever holds them."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import select, update

from litegpt.boxes import Box
from litegpt.findings import Finding as ModelFinding
from service.archive import Archive
from service.completion import Completion
from service.errors import LeaseLost
from service.peers import Destination
from service.records import analyses, conclusions, deliveries, overview
from service.records.claims import Claim
from service.records.conclusions import Conclusion, ImageOutcome, WrittenResult
from service.records.database import Records, utc_now
from service.records.intake import Receiver
from service.records.overview import FindingView
from service.records.retry import Retry
from service.records.states import AnalysisState, DeliveryState
from service.records.tables import Analysis, AnalysisImage, Delivery, Finding, Result
from tests.images import make_radiograph
from tests.service.conftest import MODEL, incoming, sent_to

NOW = timedelta(0)
MINUTE = timedelta(minutes=1)
RETRY = Retry(first=NOW, maximum=NOW, maximum_attempts=3)
PACS = Destination(ae_title="PACS", host="host", port=104)


def _claim(records: Records, limit: int = 10, lease: timedelta = MINUTE) -> list[Claim]:
    return analyses.claim(
        records, model_id=MODEL.id, model_version=MODEL.version, limit=limit, lease=lease, retry=RETRY
    )


def _finish(records: Records, claim: Claim, uid: str = "2.25.1") -> None:
    outcomes = [ImageOutcome(image.instance_id) for image in claim.images]
    result = WrittenResult("sr", "1.2.840.10008.5.1.4.1.1.88.34", uid, "1", f"results/{uid}", "0" * 64)
    conclusions.finish(records, claim, outcomes, [result], sent_to(PACS))


def _analysis(records: Records) -> Analysis:
    with records.reading() as session:
        return session.scalars(select(Analysis)).one()


@pytest.fixture
def one_study(receiver: Receiver, archive: Archive, records: Records, completion: Completion) -> str:
    """A complete study with one image, whose analysis waits; its UID."""
    dataset = make_radiograph()
    receiver.take(incoming(archive, dataset))
    completion.complete_due(records)
    return str(dataset.StudyInstanceUID)


def test_what_is_claimed_is_not_claimed_again(records: Records, one_study: str) -> None:
    (claim,) = _claim(records)
    assert (claim.study_instance_uid, claim.attempt, len(claim.images)) == (one_study, 1, 1)
    assert _claim(records) == []


def test_analyses_of_another_model_are_left_to_its_own_workers(records: Records, one_study: str) -> None:
    assert (
        analyses.claim(records, model_id="other", model_version="1", limit=9, lease=MINUTE, retry=RETRY) == []
    )


def test_many_workers_share_the_work_without_taking_anything_twice(
    receiver: Receiver, archive: Archive, records: Records, completion: Completion
) -> None:
    for _ in range(24):
        receiver.take(incoming(archive, make_radiograph()))
    completion.complete_due(records)
    taken: Counter[int] = Counter()
    start = threading.Barrier(8)

    def work() -> None:
        start.wait()
        while claims := _claim(records, limit=2):
            taken.update(claim.analysis_id for claim in claims)

    workers = [threading.Thread(target=work) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(taken) == 24
    assert set(taken.values()) == {1}


def test_a_lease_that_ended_gives_the_work_to_the_next_and_the_first_may_not_write(
    records: Records, one_study: str
) -> None:
    (first,) = _claim(records, lease=NOW)
    (second,) = _claim(records)
    assert second.attempt == 2
    with pytest.raises(LeaseLost, match="attempt 1 is not the current one"):
        _finish(records, first)
    with pytest.raises(LeaseLost):
        analyses.renew(records, first, MINUTE)
    _finish(records, second)
    assert _analysis(records).state == AnalysisState.DONE
    with records.reading() as session:
        assert len(session.scalars(select(Delivery)).all()) == 1


def test_a_renewed_lease_keeps_the_work(records: Records, one_study: str) -> None:
    (claim,) = _claim(records, lease=NOW)
    analyses.renew(records, claim, MINUTE)
    assert _claim(records) == []


def test_superseded_work_is_not_written(records: Records, one_study: str) -> None:
    (claim,) = _claim(records)
    with records.writing() as session:
        session.execute(update(Analysis).values(state=AnalysisState.SUPERSEDED))
    with pytest.raises(LeaseLost):
        _finish(records, claim)


def test_failures_come_back_until_the_attempts_are_used_up(records: Records, one_study: str) -> None:
    for attempt in (1, 2, 3):
        (claim,) = _claim(records)
        assert claim.attempt == attempt
        analyses.fail(records, claim, "the GPU is on fire", again=True, retry=RETRY)
    assert _claim(records) == []
    failed = _analysis(records)
    assert (failed.state, failed.error) == (AnalysisState.FAILED, "the GPU is on fire")


def test_waiting_for_what_is_away_is_no_failure(records: Records, one_study: str) -> None:
    for attempt in range(1, 10):
        (claim,) = _claim(records)
        assert (claim.attempt, claim.failures) == (attempt, 0)
        analyses.postpone(records, claim, "the disk is full", RETRY)
    assert _analysis(records).state == AnalysisState.QUEUED


def test_what_has_failed_before_is_claimed_alone(
    receiver: Receiver, archive: Archive, records: Records, completion: Completion
) -> None:
    """So one study that kills its workers uses up its own attempts, and not those of the others."""
    for _ in range(4):
        receiver.take(incoming(archive, make_radiograph()))
    completion.complete_due(records)
    killer = _claim(records, limit=4, lease=NOW)[0].analysis_id
    done = set()
    for _ in range(20):
        claims = _claim(records, limit=4, lease=NOW)
        assert len(claims) <= 1
        for claim in claims:
            if claim.analysis_id != killer:
                _finish(records, claim, f"2.25.{claim.analysis_id}")
                done.add(claim.analysis_id)
    assert len(done) == 3
    with records.reading() as session:
        failed = session.scalars(select(Analysis.id).where(Analysis.state == AnalysisState.FAILED)).all()
    assert failed == [killer]


def test_what_never_helps_is_not_tried_again(records: Records, one_study: str) -> None:
    (claim,) = _claim(records)
    analyses.fail(records, claim, "no pixels", again=False, retry=RETRY)
    assert _analysis(records).state == AnalysisState.FAILED


def test_a_study_that_kills_its_workers_is_quarantined(records: Records, one_study: str) -> None:
    for _ in range(3):
        assert len(_claim(records, lease=NOW)) == 1
    assert _claim(records, lease=NOW) == []
    failed = _analysis(records)
    assert (failed.state, failed.error) == (AnalysisState.FAILED, "no worker finished it in 3 attempts")


def test_findings_read_back_as_they_were_written(records: Records, one_study: str) -> None:
    (claim,) = _claim(records)
    found = (
        ModelFinding("Nodule/Mass", 0.91, Box(1.5, 2.25, 30, 40), 0.0012),
        ModelFinding("Lung tumor", 0.5, reported=False),
    )
    conclusions.finish(records, claim, [ImageOutcome(claim.images[0].instance_id, found)], [], sent_to())
    with records.reading() as session:
        (image,) = overview.show_study(session, one_study).images
    assert image.findings == (
        FindingView("Nodule/Mass", 0.91, (1.5, 2.25, 30, 40), 0.0012, reported=True),
        FindingView("Lung tumor", 0.5, None, None, reported=False),
    )


def test_of_a_batch_that_is_written_together_only_what_is_still_held_is_written(
    receiver: Receiver, archive: Archive, records: Records, completion: Completion
) -> None:
    for _ in range(3):
        receiver.take(incoming(archive, make_radiograph()))
    completion.complete_due(records)
    held, lost, unread = _claim(records)
    with records.writing() as session:
        session.execute(update(Analysis).where(Analysis.id == lost.analysis_id).values(attempt=2))
    report = WrittenResult("sr", "1.2.840.10008.5.1.4.1.1.88.34", "2.25.1", "1", "results/1", "0" * 64)
    found = (ModelFinding("Lung tumor", 0.5),)
    batch = [
        Conclusion(held, [ImageOutcome(held.images[0].instance_id, found)], [report], sent_to(PACS)),
        Conclusion(
            lost,
            [ImageOutcome(lost.images[0].instance_id, found)],
            [replace(report, sop_instance_uid="2.25.2")],
            sent_to(PACS),
        ),
        Conclusion(
            unread,
            [ImageOutcome(unread.images[0].instance_id, not_read="no pixels")],
            [],
            sent_to(PACS),
            quarantined="no pixels",
        ),
    ]
    assert conclusions.finish_all(records, batch) == [lost]
    with records.reading() as session:
        rows = session.scalars(select(Analysis).order_by(Analysis.id)).all()
        assert [(row.state, row.failures, row.error) for row in rows] == [
            (AnalysisState.DONE, 0, ""),
            (AnalysisState.RUNNING, 0, ""),
            (AnalysisState.FAILED, 1, "no pixels"),
        ]
        assert [(row.analysis_id, row.label) for row in session.scalars(select(Finding))] == [
            (held.analysis_id, "Lung tumor")
        ]
        (sent,) = session.scalars(select(Delivery))
        assert sent.result is not None
        assert sent.result.analysis_id == held.analysis_id
        not_read = session.scalars(select(AnalysisImage.not_read).order_by(AnalysisImage.analysis_id)).all()
        assert not_read == ["", "", "no pixels"]


def test_a_delivery_is_claimed_once_and_its_lease_comes_back(records: Records, one_study: str) -> None:
    _finish(records, _claim(records)[0])
    assert deliveries.destinations_due(records) == [PACS]
    (first,) = deliveries.claim(records, PACS, limit=9, lease=NOW)
    (second,) = deliveries.claim(records, PACS, limit=9, lease=MINUTE)
    assert deliveries.claim(records, PACS, limit=9, lease=MINUTE) == []
    with pytest.raises(LeaseLost):
        deliveries.sent(records, first)
    deliveries.sent(records, second)
    assert deliveries.destinations_due(records) == []
    with records.reading() as session:
        assert overview.show_study(session, one_study).outcome == "delivered"


def test_many_couriers_share_the_deliveries_without_taking_anything_twice(
    receiver: Receiver, archive: Archive, records: Records, completion: Completion
) -> None:
    for _ in range(16):
        receiver.take(incoming(archive, make_radiograph()))
    completion.complete_due(records)
    for claim in _claim(records, limit=16):
        _finish(records, claim, f"2.25.{claim.analysis_id}")
    taken: Counter[int] = Counter()
    start = threading.Barrier(6)

    def work() -> None:
        start.wait()
        while claims := deliveries.claim(records, PACS, limit=2, lease=MINUTE):
            taken.update(claim.delivery_id for claim in claims)

    couriers = [threading.Thread(target=work) for _ in range(6)]
    for courier in couriers:
        courier.start()
    for courier in couriers:
        courier.join()
    assert len(taken) == 16
    assert set(taken.values()) == {1}


def test_a_withdrawn_delivery_is_not_begun_and_keeps_its_reason(
    receiver: Receiver, archive: Archive, records: Records, completion: Completion, one_study: str
) -> None:
    _finish(records, _claim(records)[0])
    (claim,) = deliveries.claim(records, PACS, limit=9, lease=MINUTE)
    deliveries.begin(records, claim, MINUTE)
    receiver.take(incoming(archive, make_radiograph(study_uid=one_study)))
    completion.complete_due(records)
    for write in (
        lambda: deliveries.begin(records, claim, MINUTE),
        lambda: deliveries.postpone(records, claim, "PACS does not answer", RETRY),
        lambda: deliveries.refused(records, claim, "answered C000"),
    ):
        with pytest.raises(LeaseLost):
            write()
    with records.reading() as session:
        row = session.scalars(select(Delivery)).one()
    assert (row.state, row.error) == (DeliveryState.WITHDRAWN, "superseded by a newer analysis")


def test_a_result_that_is_finished_while_it_is_superseded_is_withdrawn(
    receiver: Receiver, archive: Archive, records: Records, completion: Completion, one_study: str
) -> None:
    """The worker's transaction ends while the completion's waits for its row."""
    (claim,) = _claim(records)
    receiver.take(incoming(archive, make_radiograph(study_uid=one_study)))
    completing = threading.Thread(target=completion.complete_due, args=(records,))
    with records.writing() as session:
        # What `finish` does, held open.
        session.execute(update(Analysis).where(Analysis.id == claim.analysis_id).values(state="done"))
        completing.start()
        completing.join(0.5)
        result = Result(
            analysis_id=claim.analysis_id,
            kind="sr",
            sop_class_uid="1.2",
            sop_instance_uid="2.25.1",
            template_version="1",
            path="x",
            digest="",
            created_at=utc_now(),
            deliveries=[Delivery(destination=str(PACS), not_before=utc_now())],
        )
        session.add(result)
    completing.join()
    with records.reading() as session:
        assert session.scalars(select(Delivery)).one().state == DeliveryState.WITHDRAWN


def test_a_transient_failure_is_due_again_and_a_permanent_one_is_not(
    records: Records, one_study: str
) -> None:
    _finish(records, _claim(records)[0])
    (claim,) = deliveries.claim(records, PACS, limit=9, lease=MINUTE)
    deliveries.postpone(records, claim, "host does not answer", RETRY)
    (again,) = deliveries.claim(records, PACS, limit=9, lease=MINUTE)
    assert again.attempt == 2
    deliveries.refused(records, again, "answered C000")
    with records.reading() as session:
        view = overview.show_study(session, one_study)
    assert (view.outcome, view.deliveries[0].error) == ("refused", "answered C000")


def test_a_revision_names_the_result_that_was_delivered_before(
    receiver: Receiver, archive: Archive, records: Records, completion: Completion, one_study: str
) -> None:
    (first,) = _claim(records)
    assert first.predecessors == ()
    _finish(records, first, "2.25.1")
    deliveries.sent(records, deliveries.claim(records, PACS, limit=1, lease=MINUTE)[0])
    receiver.take(incoming(archive, make_radiograph(study_uid=one_study)))
    completion.complete_due(records)
    (second,) = _claim(records)
    assert [before.sop_instance_uid for before in second.predecessors] == ["2.25.1"]


def test_a_revision_does_not_name_what_nobody_received(
    receiver: Receiver, archive: Archive, records: Records, completion: Completion, one_study: str
) -> None:
    _finish(records, _claim(records)[0])
    receiver.take(incoming(archive, make_radiograph(study_uid=one_study)))
    completion.complete_due(records)
    assert _claim(records)[0].predecessors == ()
    with records.reading() as session:
        assert session.scalars(select(Delivery)).one().state == DeliveryState.WITHDRAWN


def test_waits_double_up_to_a_limit_and_differ() -> None:
    retry = Retry(timedelta(seconds=10), timedelta(seconds=60), 5)
    for attempt, full in ((1, 10), (2, 20), (3, 40), (4, 60), (99, 60)):
        waits = {retry.wait(attempt).total_seconds() for _ in range(50)}
        assert full / 2 <= min(waits) <= max(waits) <= full
        assert len(waits) > 1
