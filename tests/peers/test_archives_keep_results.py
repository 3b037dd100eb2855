"""Results of every kind in archives of others, Orthanc and dcmqrscp: found there, and given back as sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pydicom
import pytest
from pydicom import Dataset

from litegpt.boxes import Box
from litegpt.findings import Finding
from service.peers import Destination
from service.wire.sender import Sender, result_contexts
from tests.images import make_radiograph
from tests.peers.dcmtk import Storescp, storescp
from tests.peers.orthanc import orthanc
from tests.peers.query_retrieve import Archive, dcmqrscp
from tests.waiting import wait_until
from tests.worker.conftest import SmallNode, small_node
from tests.worker.results.random_studies import GSPS, SC, SR, SR_2D, Image, Study, make_results_of
from worker.delivery import Courier

MODALITIES = {SR: "SR", SR_2D: "SR", GSPS: "PR", SC: "OT"}
SERIES = {SR: 9701, SR_2D: 9701, GSPS: 9703, SC: 9702}
RECEIVER = "RECEIVER"


@dataclass(frozen=True)
class Kept:
    """An archive with the results of two studies, and somebody whom it can send to."""

    archive: Archive
    studies: list[Study]
    receiver: Storescp

    @property
    def study(self) -> Study:
        """The one that is asked for."""
        return self.studies[0]

    def sent(self, *sop_classes: str) -> list[Dataset]:
        """What was sent of that study."""
        return [pydicom.dcmread(file) for uid in sop_classes for file in self.study.files[uid]]


@pytest.fixture(scope="module", params=["orthanc", "dcmqrscp"])
def kept(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    folder = tmp_path_factory.mktemp(f"archive-{request.param}")
    with ExitStack() as stack:
        receiver = stack.enter_context(storescp(folder / "receiver", ae_title=RECEIVER))
        if request.param == "dcmqrscp":
            archive = stack.enter_context(dcmqrscp(folder / "archive", knows={RECEIVER: receiver.port}))
        else:
            peer = stack.enter_context(
                orthanc(
                    folder / "archive",
                    DefaultEncoding="Utf8",  # of its answers; else Latin 1
                    DicomAlwaysAllowFind=True,
                    DicomAlwaysAllowGet=True,
                    DicomAlwaysAllowMove=True,
                )
            )
            peer.add_modality("receiver", RECEIVER, receiver.port)
            archive = Archive(peer.ae_title, peer.port)
        node = small_node(folder / "node", destinations=[f"{archive.destination}=sr+gsps+sc"])
        stack.callback(node.records.close)
        stack.callback(node.bell.close)
        studies = [_study("Müller^Łukasz=山田^太郎=やまだ^たろう", "P1"), _study("Doe^Jane", "P2")]
        make_results_of(studies, node)
        _deliver(node, studies)
        yield Kept(archive, studies, receiver)


def _study(name: str, patient: str) -> Study:
    first = make_radiograph(rows=97, columns=81, PatientName=name, PatientID=patient, AccessionNumber=patient)
    second = make_radiograph(
        study_uid=first.StudyInstanceUID, PatientName=name, PatientID=patient, AccessionNumber=patient
    )
    found = Finding("Nodule/Mass", 0.912, Box(3.25, 4.5, 20, 30)), Finding("Pneumonia", 0.4)
    return Study([Image(first, found), Image(second)], "ISO_IR 192")


def _deliver(node: SmallNode, studies: list[Study]) -> None:
    """By the node's courier; by its sender the simpler report, which these archives do not ask for."""
    assert Courier(node.settings, node.records, node.archive).drain()
    (destination,) = node.settings.destinations
    with Sender(node.settings).associate(
        Destination.parse(destination.address), result_contexts([SR_2D])
    ) as connection:
        for study in studies:
            assert node.show(study.uid).outcome == "delivered"
            assert "replaced" not in {delivery.state for delivery in node.show(study.uid).deliveries}
            connection.store(study.files[SR_2D][0])


def test_a_study_is_found_with_its_patient(kept: Kept) -> None:
    keys = {"PatientID": "P1", "StudyInstanceUID": "", "PatientName": "", "AccessionNumber": ""}
    (found,) = kept.archive.find("STUDY", **keys)
    assert found.StudyInstanceUID == kept.study.uid
    assert (found.PatientName, found.AccessionNumber) == (kept.study.images[0].dataset.PatientName, "P1")
    assert len(kept.archive.find("STUDY", StudyInstanceUID="")) == 2


def test_its_series_are_found_by_what_they_are(kept: Kept) -> None:
    keys = {"StudyInstanceUID": kept.study.uid, "SeriesInstanceUID": "", "SeriesNumber": ""}
    found = {
        (str(one.SeriesInstanceUID), str(one.Modality), int(one.SeriesNumber))
        for one in kept.archive.find("SERIES", Modality="", **keys)
    }
    assert found == {
        (str(result.SeriesInstanceUID), MODALITIES[uid], SERIES[uid])
        for uid in MODALITIES
        for result in kept.sent(uid)
    }
    assert len(found) == 4
    (state,) = kept.archive.find("SERIES", Modality="PR", **keys)
    assert state.SeriesInstanceUID == kept.sent(GSPS)[0].SeriesInstanceUID


@pytest.mark.parametrize("sop_class", MODALITIES, ids=["sr-3d", "sr-2d", "gsps", "sc"])
def test_each_object_is_found(kept: Kept, sop_class: str) -> None:
    sent = kept.sent(sop_class)
    found = kept.archive.find(
        "IMAGE",
        StudyInstanceUID=kept.study.uid,
        SeriesInstanceUID=str(sent[0].SeriesInstanceUID),
        SOPInstanceUID="",
        InstanceNumber="",
    )
    assert {(str(one.SOPInstanceUID), int(one.InstanceNumber)) for one in found} == {
        (str(one.SOPInstanceUID), int(one.InstanceNumber)) for one in sent
    }


@pytest.mark.parametrize("sop_class", MODALITIES, ids=["sr-3d", "sr-2d", "gsps", "sc"])
def test_c_get_gives_back_what_was_sent(kept: Kept, sop_class: str, tmp_path: Path) -> None:
    sent = kept.sent(sop_class)
    got = kept.archive.get(
        tmp_path / "got",
        "SERIES",
        StudyInstanceUID=kept.study.uid,
        SeriesInstanceUID=str(sent[0].SeriesInstanceUID),
    )
    assert _by_uid(got) == _by_uid(sent)


def test_c_move_gives_back_what_was_sent(kept: Kept) -> None:
    sent = kept.sent(*MODALITIES)
    kept.archive.move(RECEIVER, "STUDY", StudyInstanceUID=kept.study.uid)
    wait_until(lambda: len(kept.receiver.files()) == len(sent), 20, "whole study received")
    assert _by_uid(kept.receiver.datasets()) == _by_uid(sent)


def _by_uid(results: list[Dataset]) -> dict[str, Dataset]:
    """Datasets compare element by element, whatever their transfer syntax."""
    return {str(result.SOPInstanceUID): result for result in results}


def test_an_archive_that_knows_no_3d_reports_gets_and_finds_the_other(tmp_path: Path) -> None:
    """dcmqrscp 3.6.7 takes Comprehensive 3D SR; here it is set up as one that does not."""
    takes = ("ComprehensiveSRStorage", "SecondaryCaptureImageStorage")
    study = _study("Doe^Jane", "P1")
    with dcmqrscp(tmp_path / "archive", knows={}, takes=takes) as archive:
        node = small_node(tmp_path / "node", destinations=[f"{archive.destination}=sr+gsps"])
        make_results_of([study], node)
        assert Courier(node.settings, node.records, node.archive).drain()
        deliveries = node.show(study.uid).deliveries
        assert Counter((one.sop_class, one.state) for one in deliveries) == {
            ("Comprehensive 3D SR", "replaced"): 1,
            ("Comprehensive SR", "sent"): 1,
            ("Grayscale Softcopy Presentation State", "replaced"): 2,
            ("Secondary Capture Image", "sent"): 2,
        }
        keys = {"StudyInstanceUID": study.uid, "SeriesInstanceUID": ""}
        found = {str(one.Modality): one for one in archive.find("SERIES", Modality="", **keys)}
        (report,) = (pydicom.dcmread(file) for file in study.files[SR_2D])
        assert found.keys() == {"SR", "OT"}
        assert found["SR"].SeriesInstanceUID == report.SeriesInstanceUID
    node.records.close()
    node.bell.close()
