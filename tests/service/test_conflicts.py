"""An admin ends a conflict: nothing of either object is lost, and what is set aside is used for nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from pydicom import Dataset
from pynetdicom import AE
from sqlalchemy import select

from litegpt.identity import ModelIdentity
from service.actions.action import Course, Tally
from service.actions.analysing import Rerun
from service.actions.deciding import KeepFirst, TakeLater
from service.actions.resending import Resend
from service.archive import Archive
from service.completion import Completion
from service.errors import LeaseLost
from service.peers import Destination
from service.records import analyses, conclusions, deliveries
from service.records.claims import Claim
from service.records.conclusions import ImageOutcome, WrittenResult
from service.records.conflicts import list_conflicts
from service.records.database import Records, utc_now
from service.records.reconciliation import Sums, sum_up
from service.records.retry import Retry
from service.records.selection import Selection
from service.records.standing import Question, Verdict
from service.records.states import DeliveryState, InstanceState
from service.records.tables import Analysis, AuditEvent, Delivery, Instance, Result
from service.settings import Settings
from service.wire.listener import Listener
from tests.images import make_radiograph, with_other_pixels
from tests.service.conftest import MODEL, listening_node, sent_to
from tests.worker.conftest import small_node

MINUTE = timedelta(minutes=1)
RETRY = Retry(first=timedelta(0), maximum=timedelta(0), maximum_attempts=3)
PACS = Destination.parse("PACS@host:104")
SR = "1.2.840.10008.5.1.4.1.1.88.34"


@dataclass
class Node:
    """A listener that takes what real associations bring, and the node's own work done by hand."""

    settings: Settings
    listener: Listener
    records: Records

    @property
    def archive(self) -> Archive:
        return Archive(self.settings.data_dir)

    @property
    def completion(self) -> Completion:
        return Completion.of(self.settings, MODEL)

    def store(self, *datasets: Dataset) -> None:
        """C-STOREs of these, in one association."""
        entity = AE(ae_title="MODALITY")
        for dataset in datasets:
            entity.add_requested_context(dataset.SOPClassUID, dataset.file_meta.TransferSyntaxUID)
        association = entity.associate("127.0.0.1", self.listener.port, ae_title="LITEGPT")
        assert [association.send_c_store(dataset).Status for dataset in datasets] == [0] * len(datasets)
        association.release()

    def complete(self) -> None:
        self.completion.complete_due(self.records)

    def claim(self) -> list[Claim]:
        return analyses.claim(
            self.records,
            model_id=MODEL.id,
            model_version=MODEL.version,
            limit=9,
            lease=MINUTE,
            retry=RETRY,
        )

    def finish(self, claim: Claim, uid: str) -> None:
        result = WrittenResult("sr", SR, uid, "1", f"results/{uid}", "0" * 64)
        outcomes = [ImageOutcome(image.instance_id) for image in claim.images]
        conclusions.finish(self.records, claim, outcomes, [result], sent_to(PACS))

    def deliver(self) -> None:
        for claim in deliveries.claim(self.records, PACS, limit=9, lease=MINUTE):
            deliveries.sent(self.records, claim)

    def objects(self) -> list[Instance]:
        with self.records.reading() as session:
            return list(session.scalars(select(Instance).order_by(Instance.id)))

    def states_of_deliveries(self) -> list[str]:
        with self.records.reading() as session:
            return list(session.scalars(select(Delivery.state).order_by(Delivery.id)))

    def sums(self) -> Sums:
        with self.records.reading() as session:
            return sum_up(session, Question(utc_now(), MINUTE))

    def files(self) -> dict[str, bytes]:
        root = self.archive.root
        return {str(path.relative_to(root)): path.read_bytes() for path in (root / "images").rglob("*.dcm")}

    def keep_first(self, **values: bool) -> Tally:
        return Course(self.records, "a test", **values).run(KeepFirst(), Selection())

    def take_later(self, **values: bool) -> Tally:
        action = TakeLater(self.completion, self.archive)
        return Course(self.records, "a test", **values).run(action, Selection())


@pytest.fixture
def node(settings: Settings, records: Records, process_settings: None) -> Iterator[Node]:
    with listening_node(settings) as (listener, open_records):
        yield Node(settings, listener, open_records)


def _delivered(node: Node) -> tuple[Dataset, Dataset]:
    """An image that was read and whose report was delivered, and another under its UID that is held."""
    first = make_radiograph()
    later = with_other_pixels(first)
    node.store(first)
    node.complete()
    node.finish(node.claim()[0], "2.25.1")
    node.deliver()
    node.store(later)
    assert [row.state for row in node.objects()] == [InstanceState.STORED, InstanceState.CONFLICT]
    return first, later


def test_the_first_is_kept_and_nothing_is_read_anew(node: Node) -> None:
    _delivered(node)
    files = node.files()
    assert node.keep_first() == {"the first kept": 1}
    first, later = node.objects()
    assert (first.eligible, first.set_aside_at) == (True, None)
    assert (later.state, later.eligible, later.set_aside_at is None) == ("stored", False, False)
    assert later.reason == "set aside: the first to come under its UID was kept"
    assert node.files() == files and len(files) == 2
    node.complete()
    assert node.claim() == []
    with node.records.reading() as session:
        assert list_conflicts(session) == []
    sums = node.sums()
    assert (sums.studies(Verdict.SETTLED), sums.images.conflict) == (1, 0)
    assert node.keep_first() == {"not in conflict": 1} == node.take_later()


def test_the_header_of_what_was_set_aside_is_nobody_s(node: Node) -> None:
    _delivered(node)
    node.keep_first()
    other = ModelIdentity("another", "1", demonstration=True)
    Course(node.records, "a test").run(Rerun(node.completion, model=other), Selection())
    (claim,) = analyses.claim(
        node.records, model_id="another", model_version="1", limit=9, lease=MINUTE, retry=RETRY
    )
    first = node.objects()[0]
    assert [image.header_path for image in claim.images] == [first.path] == [claim.patient_header_path]
    assert claim.other_images == ()


def test_the_later_is_read_and_its_report_names_the_former_as_its_predecessor(node: Node) -> None:
    _delivered(node)
    files = node.files()
    assert node.take_later() == {"the later taken: the study is read again": 1}
    first, later = node.objects()
    assert (first.eligible, first.reason) == (False, "set aside: a later one under its UID was taken")
    assert (later.state, later.eligible, later.reason) == ("stored", True, "")
    (claim,) = node.claim()
    (image,) = claim.images
    assert (image.instance_id, image.path, image.header_path) == (later.id, later.path, later.path)
    assert claim.patient_header_path == later.path
    assert [one.sop_instance_uid for one in claim.predecessors] == ["2.25.1"]
    assert claim.other_images == ()
    node.finish(claim, "2.25.2")
    node.deliver()
    assert node.files() == files and len(files) == 2
    assert node.sums().studies(Verdict.SETTLED) == 1
    with node.records.reading() as session:
        (event,) = session.scalars(select(AuditEvent))
    assert (event.who, event.action) == ("a test", "take-later")
    assert json.loads(event.outcome) == {"the later taken: the study is read again": 1}


def test_whoever_reads_the_former_loses_it_and_what_it_found_is_not_sent(node: Node) -> None:
    first = make_radiograph()
    node.store(first)
    node.complete()
    node.finish(node.claim()[0], "2.25.1")  # due
    Course(node.records, "a test").run(
        Rerun(node.completion, model=ModelIdentity("another", "1", demonstration=True)),
        Selection(),
    )
    (running,) = analyses.claim(
        node.records, model_id="another", model_version="1", limit=9, lease=MINUTE, retry=RETRY
    )
    node.store(with_other_pixels(first))
    node.take_later()
    assert node.states_of_deliveries() == [DeliveryState.WITHDRAWN]
    with pytest.raises(LeaseLost):
        node.finish(running, "2.25.2")
    (claim,) = node.claim()
    assert claim.predecessors == ()
    assert Course(node.records, "a test").run(Resend(), Selection()) == {}


def test_a_rehearsal_changes_nothing(node: Node) -> None:
    _delivered(node)
    assert node.take_later(dry_run=True) == {"the later taken: the study is read again": 1}
    assert node.keep_first(dry_run=True) == {"the first kept": 1}
    assert [row.state for row in node.objects()] == [InstanceState.STORED, InstanceState.CONFLICT]
    with node.records.reading() as session:
        assert session.scalars(select(AuditEvent)).all() == []
    assert node.claim() == []


def test_a_study_that_still_receives_is_read_once_when_it_is_complete(node: Node) -> None:
    first = make_radiograph()
    node.store(first, with_other_pixels(first))
    assert node.take_later() == {"the later taken: read when the study is complete": 1}
    node.complete()
    (claim,) = node.claim()
    assert [image.instance_id for image in claim.images] == [node.objects()[1].id]


def test_a_later_one_that_is_not_to_be_read_leaves_nothing_to_read(node: Node) -> None:
    first = make_radiograph()
    node.store(first)
    node.complete()
    node.finish(node.claim()[0], "2.25.1")
    node.store(with_other_pixels(first, ViewPosition="LL"))
    node.take_later()
    assert [row.reason for row in node.objects()][1] == "lateral view LL"
    with node.records.reading() as session:
        newest = session.scalars(select(Analysis).order_by(Analysis.id.desc()).limit(1)).one()
    assert (newest.state, newest.counts) == ("not-applicable", True)
    assert node.states_of_deliveries() == [DeliveryState.WITHDRAWN]


def test_of_several_the_last_is_taken(node: Node) -> None:
    first, *_ = _delivered(node)
    third = with_other_pixels(first)
    third.PixelData = bytes(len(third.PixelData))
    node.store(third)
    assert [row.state for row in node.objects()] == ["stored", "conflict", "conflict"]
    node.take_later()
    assert [(row.state, row.eligible) for row in node.objects()] == [
        ("stored", False),
        ("stored", False),
        ("stored", True),
    ]


def test_what_was_decided_against_may_come_again(node: Node) -> None:
    """The same bytes change nothing; its pixels under another header are held again."""
    first, later = _delivered(node)
    node.take_later()
    node.store(first, later)
    assert len(node.objects()) == 2
    first.PatientID = later.PatientID = "CORRECTED"
    node.store(first, later)
    _, _, against, corrected = node.objects()
    assert (against.state, corrected.state) == ("conflict", "stored")
    assert corrected.reason == "corrected header of an image that is already stored"


def test_a_file_that_is_gone_is_not_taken(node: Node) -> None:
    _delivered(node)
    node.archive.absolute(node.objects()[1].path).unlink()
    before = node.objects()[0].eligible
    assert node.take_later() == {"nothing was done: the later file is gone, or cannot be read": 1}
    assert (node.objects()[0].eligible, node.objects()[1].state) == (before, "conflict")


def test_another_image_of_the_study_is_read_with_the_later(node: Node) -> None:
    first, _ = _delivered(node)
    beside = make_radiograph(study_uid=str(first.StudyInstanceUID))
    node.store(beside)
    node.complete()
    node.finish(node.claim()[0], "2.25.2")
    node.take_later()
    (claim,) = node.claim()
    assert {image.instance_id for image in claim.images} == {row.id for row in node.objects()[1:]}


def test_the_later_goes_where_the_first_was_passed_on(
    settings: Settings, records: Records, process_settings: None
) -> None:
    to = [f"{name}@host:104" for name in ("SENT", "DUE")]
    passing_on = settings.model_copy(update={"forward_images_to": tuple(map(Destination.parse, to))})
    with _node(passing_on) as node:
        first = make_radiograph()
        node.store(first)
        (claim,) = deliveries.claim(node.records, Destination.parse(to[0]), limit=9, lease=MINUTE)
        deliveries.sent(node.records, claim)
        node.store(with_other_pixels(first))
        assert len(node.states_of_deliveries()) == 2
        node.take_later()
        with node.records.reading() as session:
            rows = session.execute(
                select(Delivery.instance_id, Delivery.destination, Delivery.state).order_by(
                    Delivery.instance_id, Delivery.destination
                )
            ).all()
        one, two = (row.id for row in node.objects())
        assert [tuple(row) for row in rows] == [
            (one, to[1], "withdrawn"),
            (one, to[0], "sent"),
            (two, to[1], "due"),
            (two, to[0], "due"),
        ]
        # What was given up of the former does not come back.
        resent = Course(node.records, "a test").run(Resend(again=True), Selection())
        assert resent == {"due already": 2}


@contextmanager
def _node(settings: Settings) -> Iterator[Node]:
    with listening_node(settings) as (listener, records):
        yield Node(settings, listener, records)


def test_the_list_names_every_file(node: Node) -> None:
    first, _ = _delivered(node)
    node.store(make_radiograph())
    with node.records.reading() as session:
        (conflict,) = list_conflicts(session)
        assert session.scalars(select(Result)).one()
    assert conflict.study_instance_uid == first.StudyInstanceUID
    assert conflict.sop_instance_uid == first.SOPInstanceUID
    rows = node.objects()
    assert [(one.path, one.held) for one in conflict.contenders] == [
        (rows[0].path, False),
        (rows[1].path, True),
    ]


def test_the_command_line_lists_and_decides(tmp_path: Path) -> None:
    small = small_node(tmp_path / "node-data")
    first = make_radiograph(AccessionNumber="C-1")
    small.take(first, with_other_pixels(first))

    def command(*arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "service.cli.main", "conflict", *arguments],
            env={**os.environ, "LITEGPT_DATA_DIR": str(small.settings.data_dir)},
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done.returncode, done.stdout

    status, listed = command("list", "--json")
    (conflict,) = json.loads(listed)
    assert (status, conflict["sop_instance_uid"]) == (1, first.SOPInstanceUID)
    assert [one["held"] for one in conflict["contenders"]] == [False, True]
    assert conflict["contenders"][1]["path"] in command("list")[1]
    read_again = "the later taken: the study is read again"
    assert command("take-later", "C-1", "--dry-run") == (
        0,
        f"take-later: 1 {read_again} (nothing was changed)\n",
    )
    status, done = command("take-later", "C-1", "--json")
    assert json.loads(done) == {"action": "take-later", "dry_run": False, "outcome": {read_again: 1}}
    assert command("list") == (0, "no conflict\n")
    assert command("keep-first", "C-1") == (0, "keep-first: 1 not in conflict\n")
    assert command("keep-first")[0] == 2
    small.records.close()
