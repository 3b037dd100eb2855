"""A patient goes for good: every file, every row and every name, and nothing of anybody else."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import subprocess
import time
from collections.abc import Callable, Collection
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from sqlalchemy import ColumnElement, func, select, update

from service.archive import Archive
from service.completion import Completion
from service.erasing import traces
from service.erasing.erasure import ACTION, Erased, Erasure, Outlook
from service.erasing.search import Found, Wanted, search
from service.erasing.traces import ERASED, digest_of
from service.errors import SettingsError
from service.records import safekeeping
from service.records.database import Records, utc_now
from service.records.intake import Receiver
from service.records.journal import write_down
from service.records.retrieval_jobs import make_job
from service.records.safekeeping import Judged
from service.records.states import JobState, RetrievalState
from service.records.tables import (
    Analysis,
    AuditEvent,
    Base,
    Delivery,
    Instance,
    RetrievalJob,
    RetrievalStudy,
    SafekeepingRequest,
    Study,
)
from service.records.versions import Intake
from service.retrieval.filters import Filters
from service.settings import Settings, load_settings
from tests.images import make_radiograph
from tests.node import BIN
from tests.service.conftest import incoming
from tests.service.plain_rows import Rows, plain_rows
from tests.service.test_purge import Node

WHO = "QzWho/ä'%_\"x"
NUMBER = "QzNumber'%_ß"


@pytest.fixture
def node(receiver: Receiver, completion: Completion) -> Node:
    return Node(receiver, completion)


def _radiograph(**attributes: Any) -> Dataset:
    """One of the patient's."""
    named = {"PatientID": f" {WHO}  ", "AccessionNumber": NUMBER, "SpecificCharacterSet": "ISO_IR 192"}
    return make_radiograph(**(named | attributes))


def _rows(settings: Settings) -> Rows:
    return plain_rows(settings.sqlalchemy_url, [table.name for table in Base.metadata.sorted_tables])


def _found(node: Node, issuer: str | None = None, named: tuple[str, ...] = ()) -> Found:
    return search(node.archive, Wanted.of(WHO, issuer), named)


def _erasure(node: Node) -> Erasure:
    return Erasure(node.records, node.archive, "a test")


def _look(node: Node) -> Outlook:
    return _erasure(node).look(_found(node), WHO)


def _erase(node: Node, *, even_if_open: bool = False) -> Erased:
    return _erasure(node).run(_found(node), WHO, even_if_open=even_if_open)


def _age(node: Node) -> None:
    """Makes every file so old that nobody still writes its row."""
    for path in node.archive.root.rglob("*.dcm"):
        os.utime(path, (time.time() - 3600,) * 2)


def _name_elsewhere(node: Node, image: Dataset) -> None:
    """In all rows that are not a study's own."""
    uid, now = str(image.StudyInstanceUID), utc_now()
    filters = Filters(patient_id=WHO, accession_numbers=("OTHER", NUMBER))
    with node.records.writing() as session:
        for names in ([uid], [NUMBER], [uid[:-3]], ["1.2.3.4.5.6", uid]):
            write_down(session, "somebody", "rerun", {"queued": 1}, studies={"studies": names})
        job = make_job(
            session,
            source="PACS@host:104",
            filters=filters.model_dump_json(),
            method="move",
            again=False,
            rate_per_hour=0,
            daily_window="",
            now=now,
        )
        row = session.get_one(RetrievalJob, job)
        row.state, row.error = JobState.DONE, f"study {uid} did not come"
        session.add(
            RetrievalStudy(
                job_id=job,
                study_instance_uid=uid,
                accession_number=NUMBER,
                state=RetrievalState.DONE,
                not_before=now,
            )
        )
    asked = [Judged(str(image.SOPClassUID), str(image.SOPInstanceUID)), Judged("1.2", "1.2.3")]
    for transaction, objects in (("1.2.1", asked), ("1.2.2", asked[:1])):
        safekeeping.take(node.records, "MODALITY", transaction, objects)
        claim = safekeeping.claim(node.records, timedelta(minutes=1))
        assert claim is not None
        safekeeping.told(node.records, claim)


def test_all_of_a_patient_goes_and_nothing_of_others(node: Node, settings: Settings) -> None:
    node.settle(make_radiograph())
    before, files = _rows(settings), node.files()
    image, other = _radiograph(), _radiograph(AccessionNumber="")
    uids = sorted(node.settle(image, other))
    _name_elsewhere(node, image)
    shard = hashlib.sha256(b"1.2.3.4").hexdigest()[:2]
    lost = node.archive.root / "images" / shard / "1.2.3.4" / "1.2.dead.dcm"
    lost.parent.mkdir(parents=True)
    _radiograph(study_uid="1.2.3.4").save_as(lost, enforce_file_format=True)
    _age(node)
    went = {path for path in node.files() if path not in files}
    size = sum((node.archive.root / path).stat().st_size for path in went)
    rows = _rows(settings)

    outlook = _look(node)

    assert {one.study_instance_uid for one in outlook.studies} == {"1.2.3.4", *uids}
    assert all(one.hindrances == () for one in outlook.studies)
    assert outlook.recipients == ("PACS@host:104",) and outlook.anonymous == 0
    assert sum(one.files for one in outlook.studies) == len(went) == 5
    assert sum(one.size_bytes for one in outlook.studies) == size
    assert _rows(settings) == rows and node.files() == files | went

    erased = _erase(node)
    assert (erased.studies, erased.files, erased.size_bytes) == (3, 5, size)
    assert erased.rows == sum(one.rows for one in outlook.studies) + 1, "and the job's patient id"
    assert not erased.stay and not erased.again
    assert node.files() == files and not list(node.archive.root.rglob("1.2.3.4"))
    after = _rows(settings)
    for table in ("study", "instance", "analysis", "analysis_image", "finding", "result", "delivery"):
        assert after[table] == before[table], table
    assert after["retrieval_study"] == [] and after["delivery_attempt"] == before["delivery_attempt"]
    _assert_nowhere(node, after, [*uids, str(image.SOPInstanceUID), "QzNumber", "QzWho"])
    with node.records.reading() as session:
        (job,) = session.scalars(select(RetrievalJob))
        (request,) = session.scalars(select(SafekeepingRequest))
        events = session.scalars(select(AuditEvent).order_by(AuditEvent.id)).all()
    filters = Filters.model_validate_json(job.filters)
    assert (filters.patient_id, filters.accession_numbers) == (ERASED, ("OTHER", ERASED))
    assert json.loads(request.objects) == [["1.2", "1.2.3", 0]]
    digest = digest_of(str(image.StudyInstanceUID))
    asked = [json.loads(one.asked)["studies"]["studies"] for one in events if one.action == "rerun"]
    assert asked == [[digest], [digest], [digest], ["1.2.3.4.5.6", digest]]
    of_purge = [one for one in events if one.action == ACTION]
    assert {json.loads(one.asked)["studies"]["studies"][0] for one in of_purge} == {
        digest_of(uid) for uid in ("1.2.3.4", *uids)
    }
    assert sum(json.loads(one.outcome)["files"] for one in of_purge) == 5
    assert _erase(node) == Erased(), "nothing is left to be found"


def _assert_nowhere(node: Node, rows: object, texts: list[str]) -> None:
    """Neither in rows nor, by SQLite, in what is left of deleted ones."""
    raw = b"".join(path.read_bytes() for path in node.archive.root.glob("node.sqlite*"))
    for text in texts:
        assert text not in repr(rows) and text.encode() not in raw, text


def _newest(table: type[Delivery] | type[Instance] | type[Analysis]) -> ColumnElement[bool]:
    return table.id == select(func.max(table.id)).scalar_subquery()


def _receiving(node: Node, image: Dataset) -> str:
    node.receiver.take(incoming(node.archive, image))
    return "it is not settled: receiving"


def _queued(node: Node, image: Dataset) -> str:
    node.take(image)
    return "it is not settled: queued"


def _running(node: Node, image: Dataset) -> str:
    node.take(image)
    node.claim()
    return "it is not settled: running"


def _due(node: Node, image: Dataset) -> str:
    node.take(image)
    node.finish(*node.claim())
    return "it is not settled: delivering"


def _not_committed(node: Node, image: Dataset) -> str:
    node.settle(image)
    with node.records.writing() as session:
        session.execute(update(Delivery).where(_newest(Delivery)).values(commitment_due_at=utc_now()))
    return "PACS@host:104 has not committed to what it got"


def _promised(node: Node, image: Dataset) -> str:
    node.settle(image)
    until = utc_now() + timedelta(days=3)
    with node.records.writing() as session:
        session.execute(update(Instance).where(_newest(Instance)).values(committed_until=until))
    return f"it is promised to a modality until {until:%Y-%m-%d %H:%M} UTC"


def _asked_for(node: Node, image: Dataset) -> str:
    node.settle(image)
    asked = [Judged(str(image.SOPClassUID), str(image.SOPInstanceUID))]
    safekeeping.take(node.records, "MODALITY", "1.2.1", asked)
    return "MODALITY waits to be told that it is kept"


def _shadow(node: Node, image: Dataset) -> str:
    node.settle(image)
    with node.records.writing() as session:
        analysis = session.scalars(select(Analysis).where(_newest(Analysis))).one()
        values = {"input_digest": "x", "model_id": "m", "model_version": "2", "settings_digest": "y"}
        shadow = Analysis(
            study_id=analysis.study_id,
            **values,
            demonstration=True,
            purpose="shadow",
            counts=False,
            not_before=utc_now(),
            created_at=utc_now(),
        )
        session.add(shadow)
    return "it is not settled: "


def _retrieved(node: Node, image: Dataset) -> str:
    node.settle(image)
    _name_elsewhere(node, image)
    with node.records.writing() as session:
        session.execute(update(RetrievalJob).values(state=JobState.PAUSED))
        return f"job {session.scalar(select(RetrievalJob.id))} retrieves it"


def _mixed(node: Node, image: Dataset) -> str:
    node.settle(image)
    node.settle(make_radiograph(study_uid=image.StudyInstanceUID))
    return "it has files of other patients, too"


OPEN = (
    _receiving, _queued, _running, _due, _not_committed, _promised, _asked_for, _shadow, _retrieved, _mixed,
)  # fmt: skip


@pytest.mark.parametrize("opened", OPEN)
def test_what_is_open_stays_unless_it_is_wanted_all_the_same(
    node: Node, opened: Callable[[Node, Dataset], str]
) -> None:
    (settled,) = node.settle(_radiograph())
    reason = opened(node, image := _radiograph())
    uid = str(image.StudyInstanceUID)
    _age(node)
    files = {path for path in node.files() if uid in path}
    outlook = {one.study_instance_uid: one.hindrances for one in _look(node).studies}
    assert outlook.pop(settled) == ()
    reasons = outlook[uid]
    assert any(one.startswith(reason) for one in reasons), reasons
    erased = _erase(node)
    assert erased.stay == {uid: list(reasons)} and erased.studies == 1
    assert node.files() == files == {path for path in node.named() if path}
    assert _erase(node, even_if_open=True).studies == 1
    assert node.files() == set() and node.count(Study) == 0


def test_a_file_that_has_only_just_come_stays(node: Node) -> None:
    """A listener has put it there and is about to write its row."""
    (uid,) = node.settle(_radiograph())
    (folder,) = (node.archive.root / "images").rglob(uid)
    _age(node)
    (folder / "1.2.new.dcm").write_bytes((next(folder.iterdir())).read_bytes())
    assert _erase(node).stay == {uid: ["a file of it has only just come"]}
    assert _erase(node, even_if_open=True).again == [uid]
    assert [path.rsplit("/", 1)[1] for path in node.files()] == ["1.2.new.dcm"]
    _age(node)
    assert _erase(node).files == 1 and node.files() == set()


def _kill(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class _Dying(Archive):
    """An archive whose process is killed when a study's files have gone, but nothing says so yet."""

    def clear(self, study_uid: str, gone: Collection[str], keep: Collection[str]) -> None:
        super().clear(study_uid, gone, keep)
        _kill()


def _erase_until(step: str, data_dir: Path, database_url: str | None) -> None:
    """Erases in a process of its own, that is killed when it comes to a step."""
    settings = load_settings(data_dir=data_dir, database_url=database_url)
    kind = _Dying if step == "files gone" else Archive
    records, archive = Records.open(settings), kind(settings.data_dir)
    report = _kill if step == "first study gone" else lambda _: None
    seams = {
        "given up": (Erasure, "_remove"),
        "one folder empty": (Path, "rmdir"),
        "jobs": (traces, "forget_patient"),
    }
    if step in seams:
        setattr(*seams[step], _kill)
    found = search(archive, Wanted.of(WHO, None), ())
    Erasure(records, archive, "a test", report).run(found, WHO)


STEPS = ("given up", "one folder empty", "files gone", "first study gone", "jobs")


@pytest.mark.parametrize("step", STEPS)
def test_what_was_killed_is_finished_by_the_next(node: Node, settings: Settings, step: str) -> None:
    node.settle(make_radiograph())
    others = node.files()
    image = _radiograph()
    uids = node.settle(image, _radiograph())
    _name_elsewhere(node, image)
    _age(node)
    where = (step, settings.data_dir, settings.database_url)
    process = multiprocessing.get_context("fork").Process(target=_erase_until, args=where)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert node.named() - {""} <= node.files() | {""}, "no row says that it has a file that is gone"
    _erase(node)
    assert node.files() == others and node.count(Study) == 1
    _assert_nowhere(node, _rows(settings), [*uids, "QzNumber", "QzWho"])


def test_an_image_that_comes_between_given_up_and_gone_stays_with_its_study(node: Node) -> None:
    """Its study is found once more, and by then it is one that receives."""
    (uid,) = node.settle(image := _radiograph())
    _age(node)
    erasure = _erasure(node)
    assert erasure._give_up(uid, (), even_if_open=False) == []
    assert node.receiver.take(incoming(node.archive, image)) is Intake.STORED_AGAIN
    erased = erasure.finish()
    assert (erased.studies, erased.again) == (0, [uid])
    assert node.files() == {path for path in node.named() if path} and len(node.files()) == 1
    assert node.count(Study) == 1


def test_what_is_sent_again_later_is_new(node: Node) -> None:
    (uid,) = node.settle(image := _radiograph())
    _erase(node)
    assert node.receiver.take(incoming(node.archive, image)) is Intake.STORED
    node.completion.complete_due(node.records)
    (claim,) = node.claim()
    assert (claim.study_instance_uid, claim.attempt) == (uid, 1)


def test_an_id_of_several_issuers_needs_one(node: Node) -> None:
    ours, theirs, none = _radiograph(), _radiograph(), _radiograph()
    ours.IssuerOfPatientID, theirs.IssuerOfPatientID = "OURS", "THEIRS"
    node.settle(ours, theirs, none)
    assert _found(node).is_ambiguous
    for issuer, image in (("OURS", ours), ("THEIRS", theirs), ("", none)):
        found = _found(node, issuer)
        assert not found.is_ambiguous and found.others == 2
        assert found.studies == {str(image.StudyInstanceUID)}
    with pytest.raises(SettingsError, match="not empty"):
        Wanted.of(" ", None)


def test_what_was_purged_by_age_is_found_by_its_name(node: Node) -> None:
    (uid,) = node.settle(_radiograph())
    node.purge(-1)
    assert _found(node).studies == set() and _look(node).anonymous == 1
    found = _found(node, named=(uid,))
    assert _erasure(node).run(found, WHO).studies == 1
    assert node.count(Study) == 0 and node.count(Instance) == 0


def test_jobs_that_ask_for_the_patient_are_named(node: Node) -> None:
    node.settle(image := _radiograph())
    _name_elsewhere(node, image)
    with node.records.writing() as session:
        session.execute(update(RetrievalJob).values(state=JobState.FINDING))
        (job,) = session.scalars(select(RetrievalJob.id))
    assert _look(node).jobs == (job,)


def test_what_is_being_received_and_what_cannot_be_read_is_said(node: Node) -> None:
    incoming(node.archive, _radiograph())
    (uid,) = node.settle(make_radiograph())
    (path,) = (node.archive.root / "images").rglob(f"{uid}/*.dcm")
    path.write_bytes(b"no DICOM file")
    found = _found(node)
    assert found.arriving == 1 and found.studies == set()
    assert str(path.relative_to(node.archive.root)) in found.unread


def _purge(settings: Settings, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "250", "LITEGPT_DATABASE_URL": settings.database_url or ""}
    return subprocess.run(
        [BIN / "litegpt-node", "purge", *arguments, "--data-dir", settings.data_dir],
        cwd=settings.data_dir,
        env=environment,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_command(node: Node, settings: Settings) -> None:
    first, second = node.settle(_radiograph(), _radiograph())
    node.take(_radiograph())
    _age(node)
    files = node.files()
    would = _purge(settings, "--patient", "-", "--dry-run", stdin=f"{WHO}\n")
    assert would.returncode == 1 and "stays: it is not settled: queued" in would.stdout, would.stderr
    assert "3 studies, 5 files" in would.stdout and "Nothing was changed." in would.stdout
    assert "PACS@host:104" in would.stdout and "Backups" in would.stdout
    assert all(uid in would.stdout for uid in (first, second)) and "QzWho" not in would.stdout
    unasked = _purge(settings, "--patient", WHO)
    assert unasked.returncode == 2 and "say --yes" in unasked.stderr
    assert node.files() == files
    done = _purge(settings, "--patient", WHO, "--yes")
    assert done.returncode == 1 and "purged: 2 studies, 4 files" in done.stdout, done.stderr
    assert "stays: it is not settled: queued. Wait" in done.stdout
    forced = _purge(settings, "--patient", WHO, "--yes", "--even-if-open", "--json")
    assert forced.returncode == 0, forced.stderr
    assert json.loads(forced.stdout)["purged"]["studies"] == 1 and "QzWho" not in forced.stdout
    assert node.files() == set() and node.count(Study) == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("--yes",),
        ("--patient", "1", "--older-than", "9d"),
        ("--patient", ""),
        ("--patient", "1", "--study", "9"),
    ],
)
def test_wrong_arguments_change_nothing(node: Node, settings: Settings, arguments: tuple[str, ...]) -> None:
    node.settle(_radiograph())
    done = _purge(settings, *arguments)
    assert done.returncode in (1, 2) and "Traceback" not in done.stderr and len(done.stderr.splitlines()) == 1
    assert len(node.files()) == 2
