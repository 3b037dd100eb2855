"""Reports that other software wrote, byte for byte (see ``samples``), and what highdicom's templates allow.

Expected values are those that were given to the writers, in ``samples/*.mjs`` and ``samples/dcmqi.json``.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from highdicom import sr
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import SegmentationStorage, generate_uid

from tests.images import CR, make_radiograph
from tests.presence import find_program
from worker.reports.document import read_report
from worker.reports.group import Group

SAMPLES = Path(__file__).parent / "samples"
IMAGE = "2.25.153"
SEGMENTATION = "2.25.158"

Volume = sr.VolumetricROIMeasurementsAndQualitativeEvaluations
Place = tuple[str, tuple[float, float, float, float]]


@pytest.fixture
def image() -> Dataset:
    return make_radiograph(
        sop_class=CR,
        study_uid="2.25.151",
        series_uid="2.25.152",
        sop_instance_uid=IMAGE,
    )


def places(group: Group) -> list[Place]:
    assert {region.image for region in group.regions} <= {IMAGE}
    return [(region.kind, rounded(region.bounds)) for region in group.regions]


def rounded(bounds: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    left, top, right, bottom = bounds
    return round(left, 3), round(top, 3), round(right, 3), round(bottom, 3)


def test_cornerstone() -> None:
    """``@cornerstonejs/adapters`` 5.14.0: regions stand under the first measurement, labels are comments."""
    report = read_report(SAMPLES / "cornerstone.dcm")
    assert (report.study_instance_uid, report.images) == ("2.25.151", [IMAGE])
    found = {group.tracking_identifier.split(":")[1]: group for group in report.groups}
    effusion, nodule = found["RectangleROI"], found["Bidirectional"]
    assert (effusion.name, effusion.comments) == ("Pleural effusion, Lung structure", ["effusion, right"])
    assert places(effusion) == [("POLYLINE", (3, 5, 20, 30))]
    assert set(effusion.measurements) == {
        ("Area", "106.25", "mm2"),
        ("Perimeter", "42", "mm"),
        ("Maximum", "900", ""),
        ("Mean", "500", ""),
        ("Standard Deviation", "20", ""),
    }
    assert nodule.name == "Nodule, Lung structure"
    assert nodule.measurements == [("Long Axis", "10", "mm"), ("Short Axis", "5", "mm")]
    assert places(nodule) == [("POLYLINE", (10, 10, 30, 10)), ("POLYLINE", (20, 5, 20, 15))]
    assert found["Length"].measurements == [("Length", "25", "mm")]
    assert places(found["EllipticalROI"]) == [("ELLIPSE", (18, 20, 30, 40))]
    assert places(found["CircleROI"]) == [("CIRCLE", (19, 27, 29, 37))]
    assert places(found["Probe"]) == [("POINT", (12, 50, 12, 50))]
    assert all(group.tracking_uid for group in report.groups)


def test_what_places_a_label_is_no_region() -> None:
    """An arrow's text box, a contour's control points, dwv's label and reference points."""
    arrow, drawn_open, drawn_closed = (
        group
        for group in read_report(SAMPLES / "cornerstone.dcm").groups
        if group.comments in (["look here"], ["open line"], ["closed line"])
    )
    assert places(arrow) == [("POLYLINE", (40, 50, 44, 60))]
    assert places(drawn_open) == [("POLYLINE", (2, 55, 20, 60))]
    assert places(drawn_closed) == [("POLYLINE", (30, 40, 45, 55))]
    effusion, *_, pointed = read_report(SAMPLES / "dwv.dcm").groups
    assert len(effusion.regions) == len(pointed.regions) == 1
    assert effusion.not_drawn == []


def test_dwv() -> None:
    """``dwv`` 0.36.4: regions stand in their group, the finding and its site are its meta data."""
    report = read_report(SAMPLES / "dwv.dcm")
    assert [(group.tracking_identifier, group.tracking_uid) for group in report.groups] == [
        (f"dwv-{number}", f"2.25.16{number}") for number in range(1, 7)
    ]
    effusion, circle, oval, region, angle, point = report.groups
    assert effusion.name == "Pleural effusion, Lung structure"
    assert effusion.measurements == [("Area", "1.0625", "cm2")]
    assert places(effusion) == [("POLYLINE", (3, 5, 20, 30))]
    assert places(circle) == [("CIRCLE", (19, 27, 29, 37))]
    assert circle.measurements == [("Radius", "2.5", "mm")]
    assert places(oval) == [("ELLIPSE", (18, 20, 30, 40))]
    assert [(value, unit) for _, value, unit in oval.measurements] == [("3", "mm"), ("5", "mm")]
    assert places(region) == [("POLYLINE", (30, 40, 45, 55))]
    assert "Short Label: a region" in region.evaluations
    assert places(angle) == [("POLYLINE", (5, 20, 25, 30))]
    assert angle.measurements == [("Angle", "90", "deg")]
    assert places(point) == [("POINT", (40, 50, 40, 50))]


def check_dcmqi(file: Path) -> None:
    given = json.loads((SAMPLES / "dcmqi.json").read_text())["Measurements"]
    report = read_report(file)
    effusion, heart = report.groups
    for number, (group, asked) in enumerate(zip(report.groups, given, strict=True), start=1):
        assert group.tracking_identifier == asked["TrackingIdentifier"]
        assert group.tracking_uid == asked["TrackingUniqueIdentifier"]
        assert group.not_drawn == [f"segment {number} of segmentation {SEGMENTATION}"]
        assert group.regions == []
    assert (effusion.name, heart.name) == ("Pleural effusion, right Lung structure", "Heart")
    assert effusion.algorithm == "thresholder 1.2"
    average, largest, volume = effusion.measurements
    assert average[0].startswith("Attenuation Coefficient (Mean; Algorithm Name: averager")
    assert average[1:] == ("501.5", "[hnsf'U]")
    assert largest[0] == "Attenuation Coefficient (Maximum; Population description: a population)"
    assert volume == ("Volume", "70361.9", "mm3")
    assert {"Clinical Significance: Significant", "Remark: larger than it looks"} <= set(effusion.evaluations)
    assert "Device Observer Name: synthetic segmenter" in report.statements
    assert report.images == [IMAGE]


def test_dcmqi() -> None:
    """``tid1500writer`` 1.5.7: the region is a segment of another object, measurements are qualified."""
    check_dcmqi(SAMPLES / "dcmqi.dcm")


def test_dcmqi_that_is_installed(image: Dataset, tmp_path: Path) -> None:
    program = find_program("tid1500writer")
    if program is None:
        pytest.skip("tid1500writer is not installed (Python package dcmqi)")
    image.save_as(tmp_path / "image.dcm", enforce_file_format=True)
    arguments = ["--inputMetadata", str(SAMPLES / "dcmqi.json"), "--outputDICOM", "report.dcm"]
    folders = ["--inputImageLibraryDirectory", ".", "--inputCompositeContextDirectory", "."]
    subprocess.run([program, *arguments, *folders], cwd=tmp_path, check=True, capture_output=True, timeout=60)
    check_dcmqi(tmp_path / "report.dcm")


def highdicom_report(image: Dataset, path: Path, *groups: Volume) -> Path:
    segmentation = Dataset()
    segmentation.SOPClassUID, segmentation.SOPInstanceUID = SegmentationStorage, SEGMENTATION
    segmentation.StudyInstanceUID, segmentation.SeriesInstanceUID = image.StudyInstanceUID, "2.25.159"
    observer = sr.ObserverContext(codes.DCM.Device, sr.DeviceObserverIdentifyingAttributes(generate_uid()))
    content = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=observer),
        procedure_reported=codes.LN.CTUnspecifiedBodyRegion,
        imaging_measurements=groups,
    )
    report = sr.Comprehensive3DSR(
        evidence=[image, segmentation],
        content=content[0],
        series_instance_uid=generate_uid(),
        series_number=1,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="someone",
    )
    report.save_as(path)
    return path


def test_highdicom_in_space_and_by_segment(image: Dataset, tmp_path: Path) -> None:
    """Volumes of its own templates: an ellipsoid, a segment; both sides, and a judgement."""
    image.Modality = "DX"
    surface = sr.VolumeSurface(
        "POINT",
        [np.array([[1.0, 2.0, 3.0]])],
        generate_uid(),
        source_images=[sr.SourceImageForSegmentation.from_source_image(image)],
    )
    judged = sr.QualitativeEvaluation(
        sr.CodedConcept("111014", "DCM", "Clinical Significance"),
        sr.CodedConcept("111200", "DCM", "Significant"),
    )
    left = sr.FindingSite(codes.SCT.Lung, laterality=codes.SCT.Left)
    segment = sr.ReferencedSegment(
        SegmentationStorage, SEGMENTATION, 7, source_images=[sr.SourceImageForSegmentation(CR, IMAGE)]
    )
    file = highdicom_report(
        image,
        tmp_path / "volumes.dcm",
        Volume(
            sr.TrackingIdentifier(generate_uid(), "seed"),
            referenced_volume_surface=surface,
            finding_type=codes.SCT.Nodule,
            finding_sites=[left],
            qualitative_evaluations=[judged],
            algorithm_id=sr.AlgorithmIdentification("finder", "2.0"),
        ),
        Volume(
            sr.TrackingIdentifier(generate_uid(), "mass"),
            referenced_segment=segment,
            finding_type=codes.SCT.Mass,
        ),
    )
    nodule, mass = read_report(file).groups
    assert (nodule.name, nodule.not_drawn) == ("Nodule, left Lung", ["POINT in space"])
    assert "Clinical Significance: Significant" in nodule.evaluations
    assert nodule.algorithm == "finder 2.0"
    assert mass.not_drawn == [f"segment 7 of segmentation {SEGMENTATION}"] and mass.images == [IMAGE]
