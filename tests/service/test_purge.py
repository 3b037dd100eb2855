"""Files of settled studies go, the oldest first; what was found stays known, what comes again is stored."""

from __future__ import annotations

import json
import os
import threading
import time
from copy import deepcopy
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from pydicom import Dataset
from sqlalchemy import func, select, text, update

from litegpt.findings import Finding as Found
from service.actions.action import Course
from service.actions.analysing import Rerun
from service.actions.purging import Limits, Purge, Purged
from service.actions.resending import Resend
from service.archive import Archive
from service.backup.writing import write_backup
from service.completion import Completion
from service.errors import OutOfResources
from service.peers import Destination
from service.records import analyses, conclusions, deliveries, overview, tally
from service.records.claims import PURGED, Claim
from service.records.conclusions import ImageOutcome, WrittenResult
from service.records.database import Records, utc_now
from service.records.intake import SUCCEEDED, Receiver
from service.records.removal import remove_study
from service.records.retrievals import images_here
from service.records.retry import Retry
from service.records.selection import Selection
from service.records.standing import Verdict, settled
from service.records.tables import Analysis, AuditEvent, Base, Delivery, Finding, Instance, Result, Study
from service.records.versions import Intake
from service.settings import Settings
from tests.archived import write_result
from tests.images import DX_FOR_PROCESSING, make_radiograph
from tests.service.conftest import MODEL, incoming, sent_to
from tests.service.study_rows import StudyRow, write
from tests.service.test_reconcile import STUDIES, _verdict
from tests.waiting import wait_until

MINUTE = timedelta(minutes=1)
RETRY = Retry(first=MINUTE, maximum=MINUTE, maximum_attempts=3)
PACS = Destination(ae_title="PACS", host="host", port=104)
SR = "1.2.840.10008.5.1.4.1.1.88.34"


class SmallDisk(Archive):
    """An archive on a disk of its own, of a stated size."""

    size_bytes = 10**9

    def free_bytes(self) -> int:
        files = (path for path in self.root.rglob("*.dcm") if path.is_file())
        return self.size_bytes - sum(path.stat().st_size for path in files)


class Breaking(Archive):
    """An archive whose process is killed before or after files go."""

    def __init__(self, root: Path, *, after: bool) -> None:
        super().__init__(root)
        self._after = after

    def clear(self, study_uid: str, gone: object, keep: object) -> None:
        if self._after:
            super().clear(study_uid, gone, keep)  # type: ignore[arg-type]
        raise KeyboardInterrupt


class Node:
    """A node without its processes, whose studies are analysed and delivered at once."""

    def __init__(self, receiver: Receiver, completion: Completion) -> None:
        self.receiver, self.completion = receiver, completion
        self.records, self.archive = receiver.records, receiver.archive
        self._results = 0

    def take(self, *images: Dataset, days_ago: float = 0) -> list[str]:
        """Receives images and completes their studies."""
        for image in images:
            self.receiver.take(incoming(self.archive, image))
        self.completion.complete_due(self.records)
        uids = [str(image.StudyInstanceUID) for image in images]
        if days_ago:
            came = utc_now() - timedelta(days=days_ago)
            with self.records.writing() as session:
                of_them = update(Study).where(Study.study_instance_uid.in_(uids))
                session.execute(of_them.values(last_eligible_at=came))
        return uids

    def claim(self, version: str = MODEL.version) -> list[Claim]:
        return analyses.claim(
            self.records,
            model_id=MODEL.id,
            model_version=version,
            limit=99,
            lease=MINUTE,
            retry=RETRY,
        )

    def finish(self, *claims: Claim, to: tuple[Destination, ...] = (PACS,)) -> None:
        """Writes a result of each, that is due."""
        for claim in claims:
            self._results += 1
            uid = f"2.25.{self._results}"
            path = write_result(self.archive, b"result " * 100, claim.study_instance_uid, uid)
            result = WrittenResult("sr", SR, uid, "1", path, "0" * 64)
            outcomes = [ImageOutcome(image.instance_id, (Found("Edema", 0.5),)) for image in claim.images]
            conclusions.finish(self.records, claim, outcomes, [result], sent_to(*to))

    def deliver(self) -> None:
        for sending in deliveries.claim(self.records, PACS, limit=99, lease=MINUTE):
            deliveries.sent(self.records, sending)

    def settle(self, *images: Dataset, days_ago: float = 0) -> list[str]:
        """Receives, analyses and delivers."""
        uids = self.take(*images, days_ago=days_ago)
        self.finish(*self.claim())
        self.deliver()
        return uids

    def purge(self, days: float | None = 0, archive: Archive | None = None, **values: object) -> Purged:
        before = None if days is None else utc_now() - timedelta(days=days)
        asked = Limits(before, values.pop("free_bytes", None))  # type: ignore[arg-type]
        purge = Purge(self.records, archive or self.archive, "a test", **values)  # type: ignore[arg-type]
        return purge.run(asked)

    def files(self) -> set[str]:
        """What lies in the archive, relative to it."""
        folders = (self.archive.root / "images", self.archive.root / "results")
        found = (path for folder in folders for path in folder.rglob("*.dcm"))
        return {str(path.relative_to(self.archive.root)) for path in found}

    def named(self) -> set[str]:
        """What the records say is there."""
        with self.records.reading() as session:
            images = session.scalars(select(Instance.path).where(Instance.purged_at.is_(None)))
            results = session.scalars(select(Result.path).where(Result.purged_at.is_(None)))
            return {*images, *results}

    def paths_of_purged(self) -> set[str]:
        with self.records.reading() as session:
            images = session.scalars(select(Instance.path).where(Instance.purged_at.is_not(None)))
            results = session.scalars(select(Result.path).where(Result.purged_at.is_not(None)))
            return {*images, *results}

    def count(self, table: type[Base]) -> int:
        with self.records.reading() as session:
            return session.scalar(select(func.count()).select_from(table)) or 0

    def rerun(self) -> dict[str, int]:
        return dict(Course(self.records, "a test").run(Rerun(self.completion), Selection()))


@pytest.fixture
def node(receiver: Receiver, completion: Completion) -> Node:
    return Node(receiver, completion)


@examples(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(STUDIES, max_size=20))
def test_what_may_go_is_what_reconcile_calls_settled(records: Records, rows: list[StudyRow]) -> None:
    with records.writing() as session:
        for table in reversed(Base.metadata.sorted_tables):
            session.execute(text(f"DELETE FROM {table.name}"))
        uids = {write(session, row): _verdict(row) is Verdict.SETTLED for row in rows}
    with records.reading() as session:
        found = set(session.scalars(select(Study.study_instance_uid).where(settled())))
    assert found == {uid for uid, is_settled in uids.items() if is_settled}


def test_old_studies_lose_their_files_and_keep_their_findings(node: Node) -> None:
    (old,) = node.settle(make_radiograph(), days_ago=100)
    (young,) = node.settle(make_radiograph(), days_ago=10)
    before, findings = node.files(), node.count(Finding)
    size = sum((node.archive.root / path).stat().st_size for path in before if old in path)
    expected = Purged(studies=1, images=1, results=1, size_bytes=size)

    assert node.purge(90, dry_run=True) == expected
    assert node.files() == before == node.named() and node.count(AuditEvent) == 0
    seen: list[int] = []
    assert node.purge(90, report=seen.append) == expected
    assert seen == [1]
    assert node.files() == node.named() == {path for path in before if young in path}
    assert node.paths_of_purged() == {""}
    assert not list(node.archive.root.rglob(old)), "its folders are gone, too"
    assert node.count(Finding) == findings == 2
    with node.records.reading() as session:
        view = overview.show_study(session, old)
        (event,) = session.scalars(select(AuditEvent))
    assert view.outcome == "delivered" and view.images[0].findings[0].label == "Edema"
    assert view.images[0].purged_at == view.deliveries[0].purged_at == view.purged_at
    assert view.purged_at is not None and abs(utc_now() - view.purged_at) < MINUTE
    assert (event.who, event.action) == ("a test", "purge")
    assert json.loads(event.outcome) == {"studies": 1, "images": 1, "results": 1, "size_bytes": size}
    assert node.purge(90) == Purged()
    assert node.count(AuditEvent) == 1


def test_what_is_not_settled_stays(node: Node) -> None:
    node.take(make_radiograph())
    (claim,) = node.claim()
    analyses.fail(node.records, claim, "broken", again=False, retry=RETRY)
    node.settle(conflict := make_radiograph())
    names = {"sop_instance_uid": conflict.SOPInstanceUID, "study_uid": conflict.StudyInstanceUID}
    node.take(make_radiograph(bits_stored=10, **names))
    node.take(make_radiograph())
    node.finish(*node.claim())
    for sending in deliveries.claim(node.records, PACS, limit=99, lease=MINUTE):
        deliveries.refused(node.records, sending, "takes no reports")
    node.take(make_radiograph())
    node.finish(*node.claim())  # due
    node.take(make_radiograph())
    node.claim()  # running
    node.take(make_radiograph())  # queued
    node.receiver.take(incoming(node.archive, make_radiograph()))  # receiving
    before = node.files()
    assert len(before) == 11
    node.purge(-1)
    assert node.files() == before == node.named()
    node.take(make_radiograph(sop_class=DX_FOR_PROCESSING))  # nothing to analyse, which is in order
    assert node.purge(-1).studies == 1
    assert node.files() == before


def test_what_a_destination_has_not_committed_to_stays(node: Node) -> None:
    """Results of a shadow as well, which keep no study from being settled."""
    node.settle(make_radiograph())
    for purpose in ("regular", "shadow"):
        for due_at, gone in ((utc_now(), 0), (None, 1)):
            with node.records.writing() as session:
                session.execute(update(Analysis).values(purpose=purpose))
                session.execute(update(Delivery).values(commitment_due_at=due_at))
            assert node.purge(dry_run=True).studies == gone, (purpose, due_at)


def test_the_oldest_go_until_enough_is_free(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.actions.purging.STUDIES_AT_ONCE", 1)
    disk = SmallDisk(node.archive.root)
    uids = [node.settle(make_radiograph(), days_ago=days)[0] for days in (3, 9, 1, 5)]
    free = disk.free_bytes()
    of_one = (10**9 - free) / 4
    for dry_run in (True, False):
        went = node.purge(None, disk, free_bytes=int(free + 1.5 * of_one), dry_run=dry_run)
        assert (went.studies, went.enough) == (2, True)
    assert {uid for uid in uids if not list(node.archive.root.rglob(uid))} == {uids[1], uids[3]}
    assert node.purge(None, disk, free_bytes=disk.free_bytes()) == Purged()
    for dry_run in (True, False):
        went = node.purge(2, disk, free_bytes=10**9, dry_run=dry_run)
        assert (went.studies, went.enough) == (1, False), "the one of a day ago is too young"
    assert node.purge(None, disk, free_bytes=10**9).enough
    assert node.files() == set()


@pytest.mark.parametrize("after", [False, True], ids=["before files go", "after they went"])
def test_a_purge_that_was_killed_is_finished_by_the_next(node: Node, after: bool) -> None:
    (uid,) = node.settle(make_radiograph())
    with pytest.raises(KeyboardInterrupt):
        node.purge(-1, Breaking(node.archive.root, after=after))
    assert node.named() == set(), "no row says any more that it has a file"
    left = node.paths_of_purged() - {""}
    assert len(left) == 2 and node.files() == (set() if after else left)
    assert node.purge(-1, dry_run=True) == Purged()
    assert node.paths_of_purged() == left
    assert node.purge(-1) == Purged()
    assert node.files() == set() and node.paths_of_purged() == {""}
    assert not list(node.archive.root.rglob(uid))


def test_files_that_no_row_names_go_with_their_study_unless_they_are_new(node: Node) -> None:
    (uid,) = node.settle(image := make_radiograph())
    (folder,) = (node.archive.root / "images").rglob(uid)
    lost, new = folder / "1.2.3.dead.dcm", folder / "1.2.4.beef.dcm"
    for path in (lost, new):
        path.write_bytes(b"left behind")
    os.utime(lost, (time.time() - 3600,) * 2)
    node.purge(-1)
    assert [path.name for path in folder.iterdir()] == [new.name]
    assert str(image.SOPInstanceUID) not in str(node.files())


def test_an_archive_that_is_away_loses_nothing(node: Node) -> None:
    node.settle(make_radiograph())
    away = node.archive.root.rename(node.archive.root.with_name("unmounted"))
    node.archive.root.mkdir()
    with pytest.raises(OutOfResources, match="is not there"):
        node.purge(-1)
    assert len(node.named()) == 2
    node.archive.root.rmdir()
    away.rename(node.archive.root)

    class Unmounted(Purge):
        def _remove(self, study_ids: object) -> None:
            node.archive.incoming.rename(away)
            super()._remove(study_ids)  # type: ignore[arg-type]

    with pytest.raises(OutOfResources, match="is not there"):
        Unmounted(node.records, node.archive, "a test").run(Limits(utc_now()))
    assert node.files() == node.paths_of_purged(), "files that are there are known"
    away.rename(node.archive.incoming)
    node.purge(-1)
    assert node.files() == set()


def test_the_same_image_again_is_stored_again_and_nothing_new_is_analysed(node: Node) -> None:
    image, lateral = make_radiograph(), make_radiograph(sop_class=DX_FOR_PROCESSING)
    lateral.StudyInstanceUID = image.StudyInstanceUID
    node.settle(lateral, image, days_ago=100)
    before = node.count(Analysis), node.count(Result), node.count(Instance)
    node.purge(90)
    assert images_here(node.records, str(image.StudyInstanceUID)) == set()
    for one in (image, lateral):
        assert node.receiver.take(incoming(node.archive, one)) is Intake.STORED_AGAIN
        assert node.receiver.take(incoming(node.archive, one)) is Intake.DUPLICATE
    node.completion.complete_due(node.records)
    assert node.claim() == []
    assert (node.count(Analysis), node.count(Result), node.count(Instance)) == before
    assert node.files() == node.named() - {""} and len(node.files()) == 2
    assert images_here(node.records, str(image.StudyInstanceUID)) == {
        image.SOPInstanceUID,
        lateral.SOPInstanceUID,
    }
    assert node.purge(90) == Purged(), "its time counts from when it came again"
    assert node.rerun() == {"read by this model already": 1}


def test_an_image_that_comes_while_its_study_is_purged_stays(node: Node) -> None:
    node.settle(image := make_radiograph())

    class Interrupted(Purge):
        def _remove(self, study_ids: object) -> None:
            assert node.receiver.take(incoming(node.archive, image)) is Intake.STORED_AGAIN
            for path in node.files():  # not even where it looks old enough for a leftover
                os.utime(node.archive.root / path, (time.time() - 3600,) * 2)
            super()._remove(study_ids)  # type: ignore[arg-type]

    Interrupted(node.records, node.archive, "a test").run(Limits(utc_now()))
    (file,) = node.files()
    assert node.named() == {file} and node.paths_of_purged() == {""}


def test_an_image_whose_new_file_a_purge_took_is_asked_for_once_more(node: Node) -> None:
    """Between the file's move to its place and its row's lock the purge saw the old row."""
    node.settle(image := make_radiograph())
    begun = Purge(node.records, Breaking(node.archive.root, after=False), "a test")
    with pytest.raises(KeyboardInterrupt):
        begun.run(Limits(utc_now()))

    class Slow(Archive):
        def take_image(self, *args: object) -> str:
            moved = super().take_image(*args)  # type: ignore[arg-type]
            node.purge(-1)
            return moved

    slow = Receiver(node.records, Slow(node.archive.root), node.receiver.eligibility)
    with pytest.raises(OutOfResources, match="was being purged"):
        slow.take(incoming(node.archive, image))
    assert node.files() == set()
    assert node.receiver.take(incoming(node.archive, image)) is Intake.STORED_AGAIN
    assert node.files() == node.named()


def test_a_study_that_was_opened_again_meanwhile_stays(node: Node) -> None:
    (uid,) = node.settle(make_radiograph())

    class Late(Purge):
        def _purge(self, *args: object) -> None:
            node.receiver.take(incoming(node.archive, make_radiograph(study_uid=uid)))
            super()._purge(*args)  # type: ignore[arg-type]

    before = node.files()
    assert Late(node.records, node.archive, "a test").run(Limits(utc_now())) == Purged()
    assert node.files() == node.named() > before


def test_results_that_are_just_being_sent_again_stay(node: Node) -> None:
    node.settle(make_radiograph())
    with node.records.reading() as session:
        (study_id,) = session.scalars(select(Study.id))
    begun, came = threading.Event(), list[Purged]()

    class Concurrent(Purge):
        def _purge(self, *args: object) -> None:
            begun.set()
            super()._purge(*args)  # type: ignore[arg-type]

    purge = Concurrent(node.records, node.archive, "a test")
    thread = threading.Thread(target=lambda: came.append(purge.run(Limits(utc_now()))))

    def waits_for_us() -> bool:
        if node.records.engine.dialect.name == "sqlite" or came:
            return True  # on SQLite all writing waits
        with node.records.reading() as session:
            return bool(session.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")))

    with node.records.writing() as session:
        Resend(again=True).apply(session, [study_id])
        session.flush()
        thread.start()
        assert begun.wait(30)
        wait_until(waits_for_us, 30, "a purge that waits")
    thread.join()
    assert came == [Purged()]
    assert len(node.files()) == 2


def test_a_late_image_is_read_alone_and_the_report_names_the_purged_one(node: Node) -> None:
    first = make_radiograph()
    (uid,) = node.settle(first)
    node.purge(-1)
    late = make_radiograph(study_uid=uid)
    node.take(late)
    (claim,) = node.claim()
    assert [image.sop_instance_uid for image in claim.images] == [late.SOPInstanceUID]
    assert node.archive.absolute(claim.patient_header_path).is_file()
    assert [(one.sop_instance_uid, one.reason) for one in claim.other_images] == [
        (first.SOPInstanceUID, PURGED)
    ]
    assert claim.predecessors == (), "the new report does not hold what the purged one said"
    node.finish(claim)
    node.deliver()
    assert node.rerun() == {"read by this model already": 1}
    # Once both are there again, they are read together.
    assert node.receiver.take(incoming(node.archive, first)) is Intake.STORED_AGAIN
    assert node.rerun() == {"queued": 1}
    (both,) = node.claim()
    assert {image.sop_instance_uid for image in both.images} == {first.SOPInstanceUID, late.SOPInstanceUID}
    assert [one.sop_instance_uid for one in both.predecessors] == ["2.25.2"]


def test_the_header_of_a_purged_correction_is_not_asked_for(node: Node, completion: Completion) -> None:
    image = make_radiograph()
    corrected = deepcopy(image)
    corrected.PatientName = "After^Merge"
    node.settle(image, corrected)
    node.purge(-1)
    node.receiver.take(incoming(node.archive, image))
    other = replace(completion, model=replace(MODEL, version="2"))
    assert Course(node.records, "a test").run(Rerun(other), Selection()) == {"queued": 1}
    (claim,) = node.claim("2")
    (read,) = claim.images
    for path in (read.path, read.header_path, claim.patient_header_path):
        assert node.archive.absolute(path).is_file()


def test_other_bytes_under_the_uid_of_a_purged_image_are_read(node: Node) -> None:
    """Whether the pixels are the same cannot be told any more; a PACS that is asked again coerces headers."""
    first = make_radiograph()
    node.settle(first)
    node.purge(-1)
    other = make_radiograph(
        study_uid=first.StudyInstanceUID, sop_instance_uid=first.SOPInstanceUID, PatientName="Coerced"
    )
    assert node.receiver.take(incoming(node.archive, other)) is Intake.STORED
    node.completion.complete_due(node.records)
    (claim,) = node.claim()
    assert [image.sop_instance_uid for image in claim.images] == [first.SOPInstanceUID]
    assert node.archive.absolute(claim.images[0].path).is_file()
    node.finish(claim)
    node.deliver()
    assert node.receiver.take(incoming(node.archive, first)) is Intake.STORED_AGAIN
    assert node.rerun() == {"read by this model already": 1}, "one version of an image is read, not both"
    with node.records.reading() as session:
        rows = session.execute(select(Instance.eligible, Instance.reason).order_by(Instance.id)).all()
    assert rows == [(False, SUCCEEDED), (True, "")]


def test_a_rerun_says_that_images_were_purged(node: Node, completion: Completion) -> None:
    node.settle(image := make_radiograph())
    node.purge(-1)
    other = replace(completion, model=replace(MODEL, version="2"))
    course = Course(node.records, "a test")
    assert node.rerun() == {"read by this model already": 1}
    assert course.run(Rerun(other), Selection()) == {"images were purged: they must come again first": 1}
    assert node.count(Analysis) == 1
    node.receiver.take(incoming(node.archive, image))
    assert course.run(Rerun(other), Selection()) == {"queued": 1}


def test_what_was_cancelled_and_purged_is_not_queued_again(node: Node) -> None:
    node.take(make_radiograph())
    with node.records.writing() as session:
        session.execute(update(Analysis).values(state="cancelled"))
    node.purge(-1)
    assert node.files() == set()
    assert node.rerun() == {"images were purged: they must come again first": 1}
    assert node.claim() == []


def test_results_that_were_purged_are_not_sent_again(node: Node) -> None:
    node.settle(make_radiograph())
    node.purge(-1)
    course = Course(node.records, "a test")
    elsewhere = Destination(ae_title="NEW", host="host", port=105)
    for resend in (Resend(again=True), Resend(to=elsewhere), Resend(to=PACS, again=True)):
        assert course.run(resend, Selection()) == {"purged: the bytes are gone": 1}
    assert deliveries.destinations_due(node.records) == []


def test_other_rooms_know_that_purged_files_are_gone(node: Node, settings: Settings, tmp_path: Path) -> None:
    (gone,) = node.settle(make_radiograph(), days_ago=2)
    (kept,) = node.settle(make_radiograph())
    node.purge(1)
    target = tmp_path / "backup.tar"
    manifest = write_backup(settings, node.records, target, with_files=True, on_progress=lambda *_: None)
    assert (manifest.files.number, manifest.files.missing) == (2, 0)
    with node.records.reading() as session:
        stored = tally.stock(session).stored["stored"]
    (image,) = [path for path in node.files() if path.startswith("images")]
    assert (stored.objects, stored.size_bytes) == (1, (node.archive.root / image).stat().st_size)
    assert remove_study(node.records, node.archive, gone) == 0
    assert remove_study(node.records, node.archive, kept) == 2
    assert node.archive.incoming.is_dir()
