"""The peers against each other: what they show of the node later is only worth as much as this."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom.uid import RLELossless

from tests.images import CR, DX, SECONDARY_CAPTURE, make_radiograph
from tests.peers.dcmtk import dcmsend, echoscu, storescp, storescu
from tests.peers.dicom3tools import dciodvfy
from tests.peers.dicom_validator import dicom_validator
from tests.peers.orthanc import orthanc


@pytest.fixture
def radiographs(tmp_path: Path) -> list[Path]:
    paths = []
    for number, (sop_class, syntax) in enumerate([(DX, None), (CR, RLELossless)]):
        more = {} if syntax is None else {"transfer_syntax": syntax}
        path = tmp_path / f"{number}.dcm"
        make_radiograph(sop_class=sop_class, **more).save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def test_dcmsend_and_storescu_to_storescp(tmp_path: Path, radiographs: list[Path]) -> None:
    with storescp(tmp_path / "pacs") as pacs:
        assert echoscu(pacs.port).succeeded
        report = dcmsend(pacs.port, *radiographs)
        assert [(sent.path.name, sent.status) for sent in report] == [("0.dcm", 0), ("1.dcm", 0)]
        assert {sent.sop_instance_uid for sent in report} == {d.SOPInstanceUID for d in pacs.datasets()}
        for path in pacs.files():
            path.unlink()
        for path in radiographs:
            assert storescu(pacs.port, path).succeeded
        assert len(pacs.files()) == 2


def test_orthanc_stores_to_storescp_and_takes_what_is_sent(tmp_path: Path, radiographs: list[Path]) -> None:
    with storescp(tmp_path / "pacs") as pacs, orthanc(tmp_path / "orthanc") as archive:
        archive.upload(radiographs[0])
        assert dcmsend(archive.port, radiographs[1])[0].status == 0
        assert archive.statistics()["CountInstances"] == 2
        archive.add_modality("pacs", pacs.ae_title, pacs.port)
        archive.store("pacs", *archive.studies())
        assert len(pacs.files()) == 2


def test_dciodvfy_finds_an_error_only_where_there_is_one(tmp_path: Path, radiographs: list[Path]) -> None:
    assert dciodvfy(radiographs[0]) == []
    broken = make_radiograph(SOPClassUID=DX, PresentationIntentType=None)
    broken.save_as(tmp_path / "broken.dcm", enforce_file_format=True)
    assert any("PresentationIntentType" in line for line in dciodvfy(tmp_path / "broken.dcm"))


def test_dicom_validator_finds_an_error_only_where_there_is_one(tmp_path: Path) -> None:
    path = tmp_path / "capture.dcm"
    make_radiograph(sop_class=SECONDARY_CAPTURE).save_as(path, enforce_file_format=True)
    assert dicom_validator(path) == []
    broken = make_radiograph(sop_class=SECONDARY_CAPTURE, ConversionType=None, PatientID=None)
    broken.PlateID = "1"
    broken.save_as(path, enforce_file_format=True)
    assert dicom_validator(path) == [
        "General: (0018,1004): TagUnexpected",
        "Patient: (0010,0020): TagMissing",
        "SC Equipment: (0008,0064): TagMissing",
    ]
