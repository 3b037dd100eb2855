"""A whole node among real peers: what dcmtk and Orthanc send comes back to them as reports.

Everything runs twice: embedded (SQLite, file-system broker) and on PostgreSQL with Redis.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pydicom
import pytest

from litegpt.phantoms import phantom_files
from service.archive import file_digest
from service.received import dataset_offset
from service.records import webhook_calls
from tests.node import Node, node_up
from tests.peers.dcmtk import Storescp, dcmsend, dsrdump, echoscu, storescp, storescu
from tests.peers.dicom3tools import dciodvfy
from tests.peers.orthanc import Orthanc, orthanc
from tests.peers.radiographs import as_new_studies, sample_files, study_uids
from tests.presence import real_radiographs
from tests.service.receivers import Receiver, receiver
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(400)

SENDERS_AT_ONCE = 4


@dataclass(frozen=True)
class Hospital:
    """A node with two destinations, one of which also sends, a third that gets the images, and a webhook."""

    node: Node
    pacs: Storescp
    archive: Orthanc
    copies: Storescp
    alerts: Receiver

    def reports_of(self, studies: Iterable[str]) -> list[Path]:
        """The reports on these studies that are at storescp."""
        wanted = set(studies)
        return [path for path in self.pacs.files() if pydicom.dcmread(path).StudyInstanceUID in wanted]

    def check_delivered(self, files: Iterable[Path]) -> list[Path]:
        """Waits for the studies of the files; one report each, at both destinations."""
        studies = study_uids(files)
        self.node.wait_for(studies, "delivered", timeout_seconds=240)
        reports = self.reports_of(studies)
        assert Counter(pydicom.dcmread(path).StudyInstanceUID for path in reports) == Counter(studies)
        at_orthanc = Counter(
            answer["MainDicomTags"]["SOPInstanceUID"]
            for study in studies
            for answer in self.archive.instances({"StudyInstanceUID": study, "Modality": "SR"})
        )
        assert at_orthanc == Counter(pydicom.dcmread(path).SOPInstanceUID for path in reports)
        return reports


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def hospital(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    folder = tmp_path_factory.mktemp(f"hospital-{request.param}")
    settings = {}
    if request.param == "postgres":
        settings = {
            "database_url": request.getfixturevalue("postgres_url"),
            "broker_url": request.getfixturevalue("redis_url"),
        }
    with (
        storescp(folder / "pacs", ae_title="PACS") as pacs,
        storescp(folder / "copies", ae_title="COPIES") as copies,
        receiver() as alerts,
        orthanc(folder / "orthanc") as archive,
        node_up(
            folder / "node",
            destinations=f"{pacs.destination},{archive.destination}",
            forward_images_to=copies.destination,
            webhooks=json.dumps({"alerts": alerts.table()}),
            **settings,
        ) as node,
    ):
        archive.add_modality("node", node.ae_title, node.port)
        yield Hospital(node, pacs, archive, copies, alerts)


def test_echoscu(hospital: Hospital) -> None:
    assert echoscu(hospital.node.port, called=hospital.node.ae_title).succeeded


@pytest.mark.parametrize("originals", [phantom_files, real_radiographs], ids=["phantoms", "real"])
def test_dcmsend_on_one_association(hospital: Hospital, originals: Callable[[], list[Path]]) -> None:
    files = originals()
    sent = dcmsend(hospital.node.port, *files)
    assert [(one.path.name, one.status) for one in sent] == [(file.name, 0) for file in files]
    for report in hospital.check_delivered(files):
        assert dciodvfy(report) == []
        assert "Comprehensive 3D SR Document" in dsrdump(report)


def test_dcmsend_several_at_once(hospital: Hospital, tmp_path: Path) -> None:
    files = as_new_studies(sample_files(), tmp_path)
    batches = [files[first::SENDERS_AT_ONCE] for first in range(SENDERS_AT_ONCE)]
    with ThreadPoolExecutor(SENDERS_AT_ONCE) as senders:
        reports = list(senders.map(lambda batch: dcmsend(hospital.node.port, *batch), batches))
    assert {one.status for report in reports for one in report} == {0}
    hospital.check_delivered(files)


def test_storescu_one_per_file(hospital: Hospital, tmp_path: Path) -> None:
    files = as_new_studies(sample_files(), tmp_path)
    for file in files:
        ended = storescu(hospital.node.port, file)
        assert ended.succeeded, ended.output
    hospital.check_delivered(files)


def test_images_are_passed_on_as_they_came_but_not_to_their_sender(
    hospital: Hospital, tmp_path: Path
) -> None:
    files = as_new_studies(phantom_files()[:3], tmp_path)
    back = as_new_studies(phantom_files()[:1], tmp_path / "back")
    assert [one.status for one in dcmsend(hospital.node.port, *back, calling="COPIES")] == [0]
    assert [one.status for one in dcmsend(hospital.node.port, *files)] == [0] * 3
    wanted = {file_digest(file, dataset_offset(file)) for file in files}

    def arrived() -> bool:
        return wanted <= {file_digest(path, dataset_offset(path)) for path in hospital.copies.files()}

    wait_until(arrived, 60, "the images passed on")
    hospital.check_delivered([*files, *back])
    (returned,) = study_uids(back)
    assert returned not in {str(one.StudyInstanceUID) for one in hospital.copies.datasets()}


def test_a_webhook_is_told_of_an_analysis(hospital: Hospital, tmp_path: Path) -> None:
    (file,) = as_new_studies(phantom_files()[:1], tmp_path)
    dcmsend(hospital.node.port, file)
    (study,) = hospital.node.wait_for(study_uids([file]), "delivered", timeout_seconds=240)
    assert study.analysis_id is not None
    with hospital.node.records() as records, records.writing() as session:
        webhook_calls.call(session, study.analysis_id, "alerts")
    wait_until(lambda: hospital.alerts.bodies, 60, "the call")
    told = json.loads(hospital.alerts.bodies[0])
    assert told["study_instance_uid"] == study.study_instance_uid
    reported = [one for image in study.images for one in image.findings if one.reported]
    assert [one["label"] for one in told["findings"]] == [one.label for one in reported]
    (study,) = hospital.node.wait_for(study_uids([file]), "delivered", timeout_seconds=60)
    assert [(call.webhook, call.state, call.attempt) for call in study.calls] == [("alerts", "sent", 1)]


def test_orthanc_pushes_studies_and_gets_reports(hospital: Hospital, tmp_path: Path) -> None:
    files = as_new_studies(sample_files(), tmp_path)
    archive = hospital.archive
    instances = [archive.upload(file) for file in files]
    archive.store("node", *instances)
    reports = hospital.check_delivered(files)

    # The same study once more, now with our report in it: nothing new comes of it.
    study = archive.request("GET", f"/instances/{instances[0]}/study")["ID"]
    before = archive.statistics()["CountInstances"]
    archive.store("node", study)
    uid = study_uids(files[:1])
    wait_until(lambda: _holds_its_own_report(hospital, uid), 30, "study with its own report")
    hospital.node.wait_for(uid, "delivered")
    assert archive.statistics()["CountInstances"] == before
    assert len(hospital.reports_of(study_uids(files))) == len(reports)


def _holds_its_own_report(hospital: Hospital, uid: set[str]) -> bool:
    (study,) = uid
    return len(hospital.node.studies()[study].images) == 2
