"""Reports read back: ours against what went in, and others' in the shapes that their writers give them."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from highdicom import sr
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import Comprehensive3DSRStorage, ComprehensiveSRStorage, ExplicitVRLittleEndian, generate_uid

from litegpt.boxes import Box
from litegpt.findings import Finding
from service.errors import CannotUnderstand
from tests.images import CR, make_radiograph
from tests.worker.results.test_structured_report import report as written
from worker.reports.comparison import compare
from worker.reports.document import read_report
from worker.reports.regions import Region
from worker.results.reading import ImageReading

EFFUSION = Finding("Pleural effusion", 0.912, Box(3, 5, 20.5, 30))
HEART = Finding("Cardiomegaly", 0.5, Box(10, 20, 40, 60))


@pytest.fixture
def image() -> Dataset:
    return make_radiograph(sop_class=CR, PatientOrientation=["L", "F"])


def ours(image: Dataset, path: Path, *findings: Finding) -> Path:
    path.write_bytes(written([ImageReading(image, findings)]))
    return path


def node(*arguments: object, columns: int = 200) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "service.cli.main", *map(str, arguments)],
        env={**os.environ, "COLUMNS": str(columns)},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_our_own_report(image: Dataset, tmp_path: Path) -> None:
    report = read_report(ours(image, tmp_path / "ours.dcm", EFFUSION, HEART, Finding("Pneumonia", 0.4)))
    effusion, heart = report.groups
    assert (effusion.name, effusion.certainty) == ("Pleural effusion, right Pleura", 91.2)
    assert (heart.name, heart.certainty) == ("Cardiomegaly, Heart", 50)
    assert effusion.comments == ["Pleural effusion 0.91"] and effusion.algorithm == "litegpt-test 1.2"
    (region,) = effusion.regions
    assert region.bounds == (3, 5, 20.5, 30) and region.image == image.SOPInstanceUID
    assert report.study_instance_uid == image.StudyInstanceUID
    assert "PRELIMINARY" in report.flags and "UNVERIFIED" in report.flags
    assert "  Certainty of Finding: 40.0 %" in report.statements
    assert any("Preliminary result of an algorithm" in line for line in report.statements)


def coded(value: str, scheme: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return code


def item(kind: str, name: Dataset | None, *children: Dataset, **values: object) -> Dataset:
    made = Dataset()
    made.ValueType, made.RelationshipType = kind, "CONTAINS"
    if name is not None:
        made.ConceptNameCodeSequence = [name]
    if children:
        made.ContentSequence = list(children)
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def test_a_report_of_dcmjs(tmp_path: Path) -> None:
    """Its regions stand under a measurement, its findings are free text, its sites SNOMED RT."""
    image_uid = generate_uid()
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = CR, image_uid
    measured = Dataset()
    measured.NumericValue = "31.5"
    measured.MeasurementUnitsCodeSequence = [coded("mm", "UCUM", "millimeter")]
    source = item("IMAGE", None, ReferencedSOPSequence=[reference])
    line = item("SCOORD", None, source, GraphicType="POLYLINE", GraphicData=[1, 2, 30, 12])
    group = item(
        "CONTAINER",
        coded("125007", "DCM", "Measurement Group"),
        item("TEXT", coded("112039", "DCM", "Tracking Identifier"), TextValue="Cornerstone:Length"),
        item(
            "CODE",
            coded("121071", "DCM", "Finding"),
            ConceptCodeSequence=[coded("CORNERSTONEFREETEXT", "CST4", "a scar")],
        ),
        item(
            "CODE",
            coded("G-C0E3", "SRT", "Finding Site"),
            ConceptCodeSequence=[coded("T-28000", "SRT", "Lung")],
        ),
        item("NUM", coded("G-D7FE", "SRT", "Length"), line, MeasuredValueSequence=[measured]),
    )
    found = item("CONTAINER", coded("126010", "DCM", "Imaging Measurements"), group)
    dataset = item("CONTAINER", coded("126000", "DCM", "Imaging Measurement Report"), found)
    dataset.SOPClassUID, dataset.SOPInstanceUID = ComprehensiveSRStorage, generate_uid()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.save_as(tmp_path / "theirs.dcm", enforce_file_format=True)

    (scar,) = read_report(tmp_path / "theirs.dcm").groups
    assert scar.name == "a scar, Lung" and scar.certainty is None
    assert scar.measurements == [("Length", "31.5", "mm")]
    assert scar.regions == [Region("POLYLINE", ((1, 2), (30, 12)), image_uid)]


def test_a_report_of_highdicom(image: Dataset, tmp_path: Path) -> None:
    """Built by its own templates: a circle with an area, and a statement about the image."""
    image.Modality, image.ImagerPixelSpacing = "DX", [0.1, 0.1]
    source = sr.SourceImageForRegion.from_source_image(image)
    circle = sr.ImageRegion("CIRCLE", np.array([(20.0, 30.0), (25.0, 30.0)]), source)
    group = sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        sr.TrackingIdentifier(generate_uid(), "nodule 7"),
        referenced_region=circle,
        finding_type=codes.SCT.Nodule,
        measurements=[sr.Measurement(codes.SCT.Area, 0.785, codes.UCUM.SquareMillimeter)],
    )
    observer = sr.ObserverContext(codes.DCM.Person, sr.PersonObserverIdentifyingAttributes(name="Doe^Jane"))
    content = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_person_context=observer),
        procedure_reported=codes.LN.CTUnspecifiedBodyRegion,
        imaging_measurements=[group],
    )
    report = sr.Comprehensive3DSR(
        evidence=[image],
        content=content[0],
        series_instance_uid=generate_uid(),
        series_number=1,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="someone",
    )
    report.save_as(tmp_path / "theirs.dcm")
    read = read_report(tmp_path / "theirs.dcm")
    (nodule,) = read.groups
    assert (nodule.finding, nodule.tracking_identifier) == ("Nodule", "nodule 7")
    assert nodule.measurements == [("Area", "0.785", "mm2")]
    assert nodule.regions[0].bounds == pytest.approx((15, 25, 25, 35))
    assert read.sop_class == Comprehensive3DSRStorage.name
    assert not any("Jane" in statement for statement in read.statements)


@given(st.floats(1, 100), st.floats(1, 100), st.floats(0, math.pi))
def test_an_ellipse_has_its_own_bounds(one: float, other: float, turn: float) -> None:
    """Half the width of a turned ellipse is √(a² cos² + b² sin²)."""
    cos, sin = math.cos(turn), math.sin(turn)
    major, minor = (one * cos, one * sin), (-other * sin, other * cos)
    ends = (major, (-major[0], -major[1]), minor, (-minor[0], -minor[1]))
    left, top, right, bottom = Region("ELLIPSE", ends, "").bounds
    width, height = math.hypot(one * cos, other * sin), math.hypot(one * sin, other * cos)
    expected = pytest.approx([-width, -height, width, height], rel=0.01)
    assert [left, top, right, bottom] == expected


def test_two_reports_of_one_image(image: Dataset, tmp_path: Path) -> None:
    moved = Finding("Pleural effusion", 0.7, Box(3, 5, 20.5, 25))  # 17.5 × 20 of 17.5 × 25: IoU 0.8
    elsewhere = Finding("Cardiomegaly", 0.6, Box(30, 20, 46, 60))  # 10 × 40 of 36 × 40: IoU 0.28
    before = read_report(ours(image, tmp_path / "before.dcm", EFFUSION, HEART))
    after = read_report(ours(image, tmp_path / "after.dcm", elsewhere, moved))
    found = compare(before, after)
    ((first, second, overlap),) = found.kept
    assert (first.certainty, second.certainty, overlap) == (91.2, 70, pytest.approx(0.8))
    assert [group.certainty for group in found.gone] == [50]
    assert [group.certainty for group in found.new] == [60]
    said = node("show-report", tmp_path / "after.dcm", "--against", tmp_path / "before.dcm")
    assert said.stdout.splitlines() == [
        "new    Cardiomegaly, Heart 60 %",
        "gone   Cardiomegaly, Heart 50 %",
        "kept   Pleural effusion, right Pleura (overlap 0.80) 91.2 % to 70 %",
    ]


def test_the_command_prints_and_draws(image: Dataset, tmp_path: Path) -> None:
    file = ours(image, tmp_path / "report.dcm", HEART)
    image.save_as(tmp_path / "image.dcm", enforce_file_format=True)
    drawing = tmp_path / "drawn.png"
    said = node("show-report", file, "--image", tmp_path / "image.dcm", "--png", drawing)
    assert said.returncode == 0, said.stderr
    for words in (
        "Imaging Measurement Report",
        "Cardiomegaly, Heart",
        "10, 20, 40, 60",
        "50 %",
        "UNVERIFIED",
    ):
        assert words in said.stdout
    picture = np.asarray(Image.open(drawing)).astype(int)
    coloured = np.ptp(picture, axis=2) > 0  # (rows, columns); the radiograph is gray
    assert picture.shape == (64, 48, 3)
    assert coloured[60, 10:41].all() and coloured[20:61, 40].all() and not coloured[62:].any()


def test_what_is_no_report_is_one_line(image: Dataset, tmp_path: Path) -> None:
    image.save_as(tmp_path / "image.dcm", enforce_file_format=True)
    (tmp_path / "words.txt").write_text("no")
    with pytest.raises(CannotUnderstand, match="it has no content"):
        read_report(tmp_path / "image.dcm")
    said = node("show-report", tmp_path / "words.txt")
    assert (said.returncode, said.stderr) == (1, f"litegpt-node: {tmp_path / 'words.txt'} is no DICOM file\n")
    assert node("show-report", ours(image, tmp_path / "r.dcm"), "--png", "x.png").returncode == 2
