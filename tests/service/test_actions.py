"""What an admin does to many studies at once: what changes, what stays, and what is written down."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import func, select

from litegpt.findings import Finding
from service.actions.action import Action, Course, Tally
from service.actions.analysing import Cancel, Force, Rerun, Retry
from service.actions.resending import Resend
from service.archive import Archive
from service.completion import Completion
from service.errors import LeaseLost, NeverAgain
from service.peers import Destination, ResultKind
from service.records import analyses, conclusions, deliveries
from service.records.claims import Claim
from service.records.conclusions import ImageOutcome, WrittenResult
from service.records.database import Records
from service.records.intake import Receiver
from service.records.retry import Retry as Waits
from service.records.selection import Selection
from service.records.states import AnalysisState, DeliveryState, Priority
from service.records.tables import Analysis, AuditEvent, Delivery, Study
from tests.images import DX_FOR_PROCESSING, make_radiograph
from tests.service.conftest import MODEL, incoming, sent_to

MINUTE = timedelta(minutes=1)
WAITS = Waits(first=timedelta(0), maximum=timedelta(0), maximum_attempts=2)
PACS = Destination(ae_title="PACS", host="host", port=104)
NEXT = replace(MODEL, version="2")


class Backlog:
    """A node with studies of one image, on which actions are run."""

    def __init__(self, receiver: Receiver, completion: Completion) -> None:
        self.receiver, self.completion = receiver, completion
        self.records = receiver.records
        self.next = replace(completion, model=NEXT)
        self._results = 0

    def take(self, count: int = 1, **attributes: object) -> list[str]:
        """Receives studies and completes them."""
        images = [make_radiograph(**attributes) for _ in range(count)]  # type: ignore[arg-type]
        for image in images:
            self.receiver.take(incoming(self.receiver.archive, image))
        self.completion.complete_due(self.records)
        return [str(image.StudyInstanceUID) for image in images]

    def claim(self, version: str = "1", limit: int = 99, first: Priority = Priority.STAT) -> list[Claim]:
        return analyses.claim(
            self.records,
            model_id=MODEL.id,
            model_version=version,
            limit=limit,
            lease=MINUTE,
            retry=WAITS,
            first=first,
        )

    def finish(self, *claims: Claim, to: tuple[Destination, ...] = (PACS,)) -> None:
        for claim in claims:
            self._results += 1
            uid = f"2.25.{self._results}"
            result = WrittenResult("sr", "1.2", uid, "1", f"results/{uid}", "0" * 64)
            outcomes = [ImageOutcome(image.instance_id, (Finding("Edema", 0.5),)) for image in claim.images]
            conclusions.finish(self.records, claim, outcomes, [result], sent_to(*to))

    def run(self, action: Action, selection: Selection | None = None, dry_run: bool = False) -> Tally:
        return Course(self.records, "a test", dry_run).run(action, selection or Selection())

    def states(self) -> list[tuple[str, str]]:
        """Version and state of each analysis, oldest first."""
        with self.records.reading() as session:
            rows = session.execute(select(Analysis.model_version, Analysis.state).order_by(Analysis.id))
            return [(row[0], row[1]) for row in rows]

    def deliveries(self) -> list[str]:
        with self.records.reading() as session:
            return list(session.scalars(select(Delivery.state).order_by(Delivery.id)))


@pytest.fixture
def backlog(
    receiver: Receiver, archive: Archive, records: Records, completion: Completion
) -> Iterator[Backlog]:
    yield Backlog(receiver, completion)


def test_a_new_model_reads_again_what_the_former_read(backlog: Backlog) -> None:
    backlog.take(3)
    backlog.finish(*backlog.claim())
    rerun = Rerun(backlog.next)
    assert backlog.run(rerun, dry_run=True) == {"queued": 3}
    assert backlog.states() == [("1", "done")] * 3
    assert backlog.run(rerun) == {"queued": 3}
    assert backlog.states() == [("1", "done")] * 3 + [("2", "queued")] * 3
    assert backlog.run(rerun) == {"queued already": 3}
    (claim, *others) = backlog.claim("2")
    assert backlog.run(rerun) == {"running already": 3}
    backlog.finish(claim, *others)
    assert backlog.run(rerun) == {"read by this model already": 3}
    assert claim.priority == Priority.BACKLOG
    assert len(claim.images) == 1


def test_a_rerun_leaves_alone_what_it_cannot_read(backlog: Backlog) -> None:
    backlog.take(sop_class=DX_FOR_PROCESSING)
    backlog.take()
    backlog.receiver.take(incoming(backlog.receiver.archive, make_radiograph()))
    (claim,) = backlog.claim()
    analyses.fail(backlog.records, claim, "broken", again=False, retry=WAITS)
    assert backlog.run(Rerun(backlog.completion)) == {
        "nothing to analyse": 1,
        "in quarantine: retry takes it out": 1,
        "still receiving": 1,
    }
    assert backlog.states() == [("1", "not-applicable"), ("1", "failed")]


def test_a_rerun_withdraws_what_its_results_replace(backlog: Backlog) -> None:
    """As a late image does: one model has one word about a study."""
    backlog.take()
    backlog.finish(*backlog.claim())
    backlog.run(Rerun(backlog.next))
    assert backlog.deliveries() == ["withdrawn"]


def test_what_waits_is_moved_up_and_never_down(backlog: Backlog) -> None:
    backlog.take()
    assert backlog.run(Rerun(backlog.completion, Priority.BACKLOG)) == {"queued already": 1}
    assert backlog.run(Rerun(backlog.completion, Priority.STAT)) == {"moved up in the queue": 1}
    (claim,) = backlog.claim()
    assert claim.priority == Priority.STAT


def test_cancelled_is_cancelled_until_a_rerun(backlog: Backlog) -> None:
    backlog.take(3)
    running, *_ = backlog.claim(limit=1)
    backlog.finish(*backlog.claim(limit=1))
    cancel = Cancel("ann")
    assert backlog.run(cancel, dry_run=True) == {"cancelled": 3}
    assert backlog.run(cancel) == {"cancelled": 3}
    assert sorted(state for _, state in backlog.states()) == ["cancelled", "cancelled", "done"]
    assert backlog.deliveries() == ["withdrawn"]
    assert backlog.run(cancel) == {"nothing under way": 3}
    with pytest.raises(LeaseLost):
        backlog.finish(running)
    assert backlog.claim() == []
    tally = backlog.run(Rerun(backlog.completion))
    assert tally == {"queued": 2, "read by this model already": 1}
    backlog.finish(*backlog.claim())
    assert backlog.states() == [("1", "done")] * 3
    assert backlog.run(Resend()) == {"due already": 2, "due again": 1}


def test_quarantine_ends_with_all_attempts_before_it_again(backlog: Backlog) -> None:
    backlog.take(2)
    (claim,) = backlog.claim(limit=1)
    analyses.fail(backlog.records, claim, "broken", again=False, retry=WAITS)
    assert backlog.run(Retry()) == {"queued": 1, "not in quarantine": 1}
    for _ in range(WAITS.maximum_attempts):
        claims = [one for one in (*backlog.claim(), *backlog.claim()) if one.analysis_id == claim.analysis_id]
        for again in claims:
            analyses.fail(backlog.records, again, "still broken", again=True, retry=WAITS)
    with backlog.records.reading() as session:
        row = session.get_one(Analysis, claim.analysis_id)
        assert (row.state, row.failures, row.attempt) == (AnalysisState.FAILED, 2, 3)


def test_only_the_newest_analysis_leaves_quarantine(backlog: Backlog) -> None:
    (study,) = backlog.take()
    (claim,) = backlog.claim()
    analyses.fail(backlog.records, claim, "broken", again=False, retry=WAITS)
    backlog.take(study_uid=study)
    assert backlog.run(Retry()) == {"not in quarantine": 1}
    assert backlog.states() == [("1", "failed"), ("1", "queued")]


def test_a_destination_that_is_new_gets_what_it_wants(backlog: Backlog) -> None:
    backlog.take(2)
    backlog.finish(*backlog.claim())
    research = Destination(ae_title="RESEARCH", host="host", port=105)
    pictures = research.model_copy(update={"results": (ResultKind.SECONDARY_CAPTURE,)})
    assert backlog.run(Resend(to=pictures)) == {}
    assert backlog.run(Resend(to=research, priority=Priority.BACKLOG)) == {"due again": 2}
    claims = deliveries.claim(backlog.records, research, limit=9, lease=MINUTE)
    assert {claim.path for claim in claims} == {"results/2.25.1", "results/2.25.2"}
    for claim in claims:
        deliveries.sent(backlog.records, claim)
    assert backlog.run(Resend(to=research)) == {"delivered already": 2}
    assert backlog.run(Resend(to=research, again=True)) == {"due again": 2}
    assert backlog.deliveries().count(DeliveryState.DUE) == 4


def test_todays_patients_come_first_and_the_backlog_still_moves(backlog: Backlog) -> None:
    """With new studies waiting all the time, the backlog has the turns that it is given, and no others."""
    backlog.take(8)
    backlog.finish(*backlog.claim())
    backlog.run(Rerun(backlog.next))
    backlog.completion = backlog.next
    turns = [Priority.STAT] * 3 + [Priority.BACKLOG]
    claimed = []
    for turn in turns * 2:
        backlog.take(2)
        claimed += backlog.claim("2", limit=2, first=turn)
    assert [claim.priority for claim in claimed] == ([1, 1] * 3 + [2, 2]) * 2
    # A batch is of one priority: nobody of today waits for old studies that were claimed beside.
    rest = []
    while claims := backlog.claim("2", limit=3):
        rest.append([claim.priority for claim in claims])
    assert rest == [[1, 1, 1], [1], [2, 2, 2], [2]]


def test_every_action_is_written_down_and_a_rehearsal_is_not(backlog: Backlog) -> None:
    (study, *_) = backlog.take(2)
    backlog.run(Cancel("ann"), Selection(studies=(study,)), dry_run=True)
    backlog.run(Cancel("ann"), Selection(studies=(study,)))
    backlog.run(Rerun(backlog.next, Priority.STAT), Selection(states=("queued", "cancelled")))
    backlog.run(Force(backlog.completion), Selection(states=("receiving",)))
    with backlog.records.reading() as session:
        events = session.scalars(select(AuditEvent).order_by(AuditEvent.id)).all()
    told = [(event.who, event.action, json.loads(event.asked), json.loads(event.outcome)) for event in events]
    assert told == [
        ("a test", "cancel", {"studies": {"studies": [study]}}, {"cancelled": 1}),
        (
            *("a test", "rerun"),
            {"studies": {"states": ["queued", "cancelled"]}, "priority": "stat", "model": "litegpt-test 2"},
            {"queued": 2},
        ),
    ]


def test_what_is_done_stays_done_and_is_written_down_where_an_action_breaks_off(backlog: Backlog) -> None:
    backlog.take(5)

    def stop(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Course(backlog.records, "a test", report=stop).run(Cancel("ann"), Selection())
    with backlog.records.reading() as session:
        (event,) = session.scalars(select(AuditEvent))
        cancelled = session.scalar(select(func.count()).where(Analysis.state == AnalysisState.CANCELLED))
    assert json.loads(event.outcome) == {"cancelled": cancelled} == {"cancelled": 5}


def test_a_study_that_is_not_there_is_named(backlog: Backlog) -> None:
    with pytest.raises(NeverAgain, match="no study is called 9"):
        backlog.run(Cancel("ann"), Selection(studies=("9",)))


def test_a_study_waits_as_its_most_urgent_image(backlog: Backlog) -> None:
    """An old study of which a new image comes is of today; what comes back once more is old again."""

    def take(study_uid: str, priority: Priority) -> int:
        image = make_radiograph(study_uid=study_uid)
        backlog.receiver.take(incoming(backlog.receiver.archive, image), priority=priority)
        with backlog.records.reading() as session:
            found = session.scalars(select(Study).where(Study.study_instance_uid == study_uid)).one()
        return found.priority

    assert take("1.2.3", Priority.BACKLOG) == Priority.BACKLOG
    assert take("1.2.3", Priority.ROUTINE) == Priority.ROUTINE
    assert take("1.2.3", Priority.BACKLOG) == Priority.ROUTINE
    backlog.completion.complete_due(backlog.records)
    assert take("1.2.3", Priority.BACKLOG) == Priority.BACKLOG
    backlog.completion.complete_due(backlog.records)
    (claim,) = backlog.claim()
    assert (claim.priority, len(claim.images)) == (Priority.BACKLOG, 4)
