"""What arrives is archived and recorded once; corrections and conflicts are told apart. On both databases."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.uid import ImplicitVRLittleEndian, JPEGLSLossless, RLELossless
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from service.archive import Archive, file_digest
from service.completion import Completion
from service.errors import DatasetMismatch, OutOfResources
from service.received import dataset_offset
from service.records.database import Records
from service.records.intake import Receiver
from service.records.states import Priority, StudyState
from service.records.tables import Instance, Study
from service.records.versions import Intake
from service.settings import load_settings
from tests.images import DX_FOR_PROCESSING, make_radiograph
from tests.service.conftest import incoming


def _instances(records: Records) -> list[Instance]:
    with records.reading() as session:
        return list(session.scalars(select(Instance).order_by(Instance.id)))


def _study(records: Records) -> Study:
    with records.reading() as session:
        return session.scalars(select(Study)).one()


def test_an_image_is_archived_as_it_came(receiver: Receiver, records: Records, archive: Archive) -> None:
    dataset = make_radiograph()
    path = incoming(archive, dataset)
    content = path.read_bytes()
    assert receiver.take(path, calling_ae_title="MODALITY") is Intake.STORED
    (instance,) = _instances(records)
    stored = archive.absolute(instance.path)
    assert stored.read_bytes() == content
    assert instance.digest == file_digest(stored, dataset_offset(stored))
    assert (instance.eligible, instance.reason, instance.calling_ae_title) == (True, "", "MODALITY")
    assert _study(records).accession_number == "ACC-1"


def test_the_same_object_again_changes_nothing(
    receiver: Receiver, records: Records, archive: Archive
) -> None:
    dataset = make_radiograph()
    receiver.take(incoming(archive, dataset))
    before = _study(records).last_eligible_at
    assert receiver.take(incoming(archive, dataset)) is Intake.DUPLICATE
    assert len(_instances(records)) == 1
    assert _study(records).last_eligible_at == before


def test_an_object_whose_file_is_gone_is_stored_again(
    receiver: Receiver, records: Records, archive: Archive
) -> None:
    dataset = make_radiograph()
    receiver.take(incoming(archive, dataset))
    (instance,) = _instances(records)
    archive.absolute(instance.path).unlink()
    receiver.take(incoming(archive, dataset))
    assert archive.absolute(instance.path).is_file()
    assert len(_instances(records)) == 1


def test_a_corrected_header_stands_beside_and_is_not_analysed_again(
    receiver: Receiver, records: Records, archive: Archive, completion: Completion
) -> None:
    dataset = make_radiograph()
    receiver.take(incoming(archive, dataset))
    completion.complete_due(records)
    dataset.PatientName = "Corrected^Name"
    assert receiver.take(incoming(archive, dataset)) is Intake.CORRECTED_HEADER
    first, second = _instances(records)
    assert second.state == "stored" and not second.eligible
    assert second.reason == "corrected header of an image that is already stored"
    assert archive.absolute(first.path).is_file() and archive.absolute(second.path).is_file()
    assert _study(records).state == StudyState.COMPLETE


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, RLELossless, JPEGLSLossless])
def test_a_correction_may_come_in_another_transfer_syntax(
    receiver: Receiver, archive: Archive, syntax: str
) -> None:
    first = make_radiograph()
    again = make_radiograph(
        study_uid=first.StudyInstanceUID,
        series_uid=first.SeriesInstanceUID,
        sop_instance_uid=first.SOPInstanceUID,
        transfer_syntax=syntax,
        PatientName="After^Merge",
    )
    receiver.take(incoming(archive, first))
    assert receiver.take(incoming(archive, again)) is Intake.CORRECTED_HEADER


def test_an_image_that_moves_to_another_study_is_analysed_there(
    receiver: Receiver, records: Records, archive: Archive
) -> None:
    dataset = make_radiograph()
    receiver.take(incoming(archive, dataset))
    dataset.StudyInstanceUID = "1.2.3.4.5"
    assert receiver.take(incoming(archive, dataset)) is Intake.STORED
    assert [instance.eligible for instance in _instances(records)] == [True, True]


def test_a_correction_of_an_image_whose_file_is_gone_is_stored(
    receiver: Receiver, records: Records, archive: Archive
) -> None:
    dataset = make_radiograph()
    receiver.take(incoming(archive, dataset))
    archive.absolute(_instances(records)[0].path).unlink()
    dataset.PatientName = "Corrected^Name"
    assert receiver.take(incoming(archive, dataset)) is Intake.STORED


def test_other_pixels_under_the_same_uid_are_a_conflict(
    receiver: Receiver, records: Records, archive: Archive
) -> None:
    dataset = make_radiograph()
    other = make_radiograph(
        bits_stored=10,
        study_uid=dataset.StudyInstanceUID,
        series_uid=dataset.SeriesInstanceUID,
        sop_instance_uid=dataset.SOPInstanceUID,
    )
    receiver.take(incoming(archive, dataset))
    assert receiver.take(incoming(archive, other)) is Intake.CONFLICT
    first, second = _instances(records)
    assert (first.state, second.state, second.eligible) == ("stored", "conflict", False)
    assert archive.absolute(second.path).is_file()


def test_what_is_not_analysed_is_stored_with_its_reason(
    receiver: Receiver, records: Records, archive: Archive
) -> None:
    receiver.take(incoming(archive, make_radiograph(sop_class=DX_FOR_PROCESSING)))
    (instance,) = _instances(records)
    assert not instance.eligible and instance.reason == "for processing, not for presentation"


def test_a_radiograph_without_pixels_is_stored_and_not_analysed(
    receiver: Receiver, records: Records, archive: Archive
) -> None:
    dataset = make_radiograph()
    del dataset.PixelData
    receiver.take(incoming(archive, dataset))
    assert _instances(records)[0].reason == "no pixel data"


def test_a_late_image_opens_the_study_again_and_a_report_does_not(
    receiver: Receiver, records: Records, archive: Archive, completion: Completion
) -> None:
    first = make_radiograph()
    receiver.take(incoming(archive, first))
    completion.complete_due(records)
    report = make_radiograph(study_uid=first.StudyInstanceUID)
    report.SOPClassUID = report.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.34"
    receiver.take(incoming(archive, report))
    assert _study(records).state == StudyState.COMPLETE
    receiver.take(incoming(archive, make_radiograph(study_uid=first.StudyInstanceUID)))
    assert _study(records).state == StudyState.RECEIVING


@pytest.mark.parametrize("is_complete", [False, True])
@pytest.mark.parametrize("first", [Priority.ROUTINE, Priority.BACKLOG])
@pytest.mark.parametrize("second", [Priority.STAT, Priority.ROUTINE, Priority.BACKLOG])
def test_a_study_is_as_urgent_as_the_most_urgent_of_what_came_together(
    receiver: Receiver,
    records: Records,
    archive: Archive,
    completion: Completion,
    is_complete: bool,
    first: Priority,
    second: Priority,
) -> None:
    image = make_radiograph()
    receiver.take(incoming(archive, image), priority=first)
    if is_complete:
        completion.complete_due(records)
    began = _study(records)
    receiver.take(incoming(archive, make_radiograph(study_uid=image.StudyInstanceUID)), priority=second)
    study = _study(records)
    assert study.priority == (second if is_complete else min(first, second))
    assert study.last_eligible_at > began.last_eligible_at
    assert (study.receiving_since > began.receiving_since) == is_complete
    assert study.state == StudyState.RECEIVING


def test_a_refused_object_leaves_no_row_and_no_file(
    receiver: Receiver, records: Records, archive: Archive
) -> None:
    path = incoming(archive, make_radiograph())
    with pytest.raises(DatasetMismatch):
        receiver.take(path, sop_instance_uid="1.2.3")
    assert _instances(records) == []
    assert list((archive.root / "images").rglob("*.dcm")) == []


@pytest.mark.parametrize(
    "keyword", ["AccessionNumber", "PatientID", "BodyPartExamined", "Modality", "ViewPosition"]
)
def test_nul_bytes_in_a_header_do_not_upset_the_database(
    receiver: Receiver, archive: Archive, keyword: str
) -> None:
    assert receiver.take(incoming(archive, make_radiograph(**{keyword: "A\0B"}))) is Intake.STORED


def test_an_attribute_that_cannot_be_read_is_as_good_as_absent(receiver: Receiver, archive: Archive) -> None:
    path = incoming(archive, make_radiograph())
    content = path.read_bytes()
    assert b"\x18\x00\x15\x00CS" in content  # Body Part Examined
    path.write_bytes(content.replace(b"\x18\x00\x15\x00CS", b"\x18\x00\x15\x00QQ"))
    assert receiver.take(path) is Intake.STORED


def test_a_fault_of_the_database_is_no_success(
    receiver: Receiver, records: Records, archive: Archive
) -> None:
    if records.engine.dialect.name != "sqlite":
        pytest.skip("a trigger in SQLite's own words")
    with records.writing() as session:
        session.connection().exec_driver_sql(
            "CREATE TRIGGER broken BEFORE INSERT ON instance BEGIN SELECT RAISE(ABORT, 'broken'); END"
        )
    with pytest.raises(IntegrityError):
        receiver.take(incoming(archive, make_radiograph()))


def test_many_associations_may_bring_one_study_at_once(
    receiver: Receiver, records: Records, archive: Archive
) -> None:
    """Sixteen threads, each with the same first image and one of its own, all at the same moment."""
    shared = make_radiograph()
    own = [make_radiograph(study_uid=shared.StudyInstanceUID) for _ in range(16)]
    start = threading.Barrier(16)
    outcomes: list[Intake] = []

    def bring(index: int, same: Path, other: Path) -> None:
        start.wait()
        outcomes.append(receiver.take(same))
        outcomes.append(receiver.take(other))

    copies = [_copy(archive, shared, index) for index in range(16)]
    threads = [
        threading.Thread(target=bring, args=(index, copies[index], incoming(archive, own[index])))
        for index in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == sorted([Intake.STORED] * 17 + [Intake.DUPLICATE] * 15)
    assert len(_instances(records)) == 17
    with records.reading() as session:
        assert session.scalar(select(func.count()).select_from(Study)) == 1


def test_a_database_that_is_away_is_try_again(archive: Archive, tmp_path: Path) -> None:
    away = Records.open(load_settings(database_url="postgresql+psycopg://nobody@127.0.0.1:1/nothing"))
    with pytest.raises(OutOfResources, match="connection"), away.reading() as session:
        session.execute(select(Study))


def _copy(archive: Archive, dataset: Dataset, index: int) -> Path:
    path = archive.incoming / f"copy-{index}"
    dataset.save_as(path, enforce_file_format=True)
    return path
