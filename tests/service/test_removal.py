"""Removing one study: all of it, nothing of others, and never what is still in work."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import select, update

from service.archive import Archive
from service.errors import NeverAgain, StillInWork
from service.records.database import Records
from service.records.intake import Receiver
from service.records.removal import remove_study
from service.records.states import StudyState
from service.records.tables import Finding, Study
from service.records.versions import Intake
from service.settings import Settings
from tests.images import make_radiograph
from tests.service.conftest import incoming
from tests.service.plain_rows import Rows, plain_rows
from tests.service.study_rows import StudyRow, write
from tests.service.test_reconcile import CASES

IN_WORK = {
    "due again after it waited for commitment",
    "receiving",
    "receiving for long",
    "receiving just as long",
    "receiving again after failing",
    "receiving again after a refusal",
    "receiving again while results are due for long",
    "conflict and receiving",
    "former of another model due",
    "former of another model queued",
    "queued",
    "queued for long",
    "running",
    "replaced and its simpler form due",
    "due",
    "due for long",
    "refused and due",
    "webhook due",
    "webhook due for long",
    "former webhook of another model due",
    "images due",
    "images due for long",
    "images due while it receives",
    "nothing eligible, images due",
}
"""Of the studies that reconcile knows: those to which something may still happen by itself."""


def _write(records: Records, row: StudyRow) -> str:
    """A study, each image of each of its analyses with a finding."""
    with records.writing() as session:
        uid = write(session, row)
        study = session.scalars(select(Study).where(Study.study_instance_uid == uid)).one()
        for analysis in study.analyses:
            for image in analysis.images:
                image.findings = [Finding(position=0, label="Edema", score=0.5, reported=True)]
        return uid


def test_all_of_a_study_goes_and_nothing_of_another(
    settings: Settings, records: Records, archive: Archive
) -> None:
    _write(records, CASES["former withdrawn, present sent"][0])
    before = _rows(settings)
    uid = _write(records, CASES["former withdrawn, present sent"][0])
    assert all(len(rows) > len(before[table]) for table, rows in _rows(settings).items())
    remove_study(records, archive, uid)
    assert _rows(settings) == before
    with pytest.raises(NeverAgain, match="no such study"):
        remove_study(records, archive, uid)


def _rows(settings: Settings) -> Rows:
    return plain_rows(settings.sqlalchemy_url)


def test_what_is_still_in_work_stays(settings: Settings, records: Records, archive: Archive) -> None:
    uids = {name: _write(records, case[0]) for name, case in CASES.items()}
    refused = set()
    for name, uid in uids.items():
        before = _rows(settings)
        try:
            remove_study(records, archive, uid)
        except StillInWork:
            refused.add(name)
            assert _rows(settings) == before
    assert refused == IN_WORK
    left = {row["study_instance_uid"] for row in _rows(settings)["study"]}
    assert left == {uids[name] for name in refused}


def _taken(receiver: Receiver, archive: Archive, records: Records) -> tuple[str, Path]:
    image = make_radiograph()
    receiver.take(incoming(archive, image))
    _complete(records)
    (path,) = (archive.root / "images").rglob(f"{image.SOPInstanceUID}.*")
    return str(image.StudyInstanceUID), path


def _complete(records: Records) -> None:
    with records.writing() as session:
        session.execute(update(Study).values(state=StudyState.COMPLETE))


def test_the_files_go_too(records: Records, archive: Archive, receiver: Receiver) -> None:
    first, first_path = _taken(receiver, archive, records)
    _, other_path = _taken(receiver, archive, records)
    assert remove_study(records, archive, first) == 1
    assert not first_path.parent.exists()
    assert other_path.is_file()
    assert list(archive.incoming.iterdir()) == []


def test_a_file_that_came_anew_to_the_same_place_stays(archive: Archive) -> None:
    path = archive.root / "images" / "00" / "one.dcm"
    path.parent.mkdir()
    path.write_bytes(b"former")
    inode = path.stat().st_ino
    newer = path.with_name("newer")
    newer.write_bytes(b"newer")
    newer.rename(path)
    archive.remove("images/00/one.dcm", inode)
    assert path.read_bytes() == b"newer"
    archive.remove("images/00/one.dcm", path.stat().st_ino)
    assert not path.parent.exists()
    archive.remove("images/00/one.dcm", 0)


def test_a_study_that_was_removed_may_come_again(
    records: Records, archive: Archive, receiver: Receiver
) -> None:
    image = make_radiograph()
    assert receiver.take(incoming(archive, image)) is Intake.STORED
    _complete(records)
    remove_study(records, archive, str(image.StudyInstanceUID))
    assert receiver.take(incoming(archive, image)) is Intake.STORED
