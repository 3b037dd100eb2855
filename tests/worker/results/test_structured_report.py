"""The Structured Report: valid, read back by others, the same each time, and true to what was found."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pydicom
import pytest
from highdicom.sr import srread
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from litegpt.boxes import Box
from litegpt.findings import Finding
from litegpt.identity import ModelIdentity
from litegpt.vocabulary import DIAGNOSES, LABELS, LOCAL_LABELS, NO_FINDING
from service.peers import ResultKind
from tests.images import CR, DX, SECONDARY_CAPTURE, make_radiograph
from tests.peers.dcmtk import run_program
from tests.presence import real_radiographs
from tests.worker.results.reports import Report
from worker.results.codes import LABEL_CODES
from worker.results.evaluations import DEMONSTRATION
from worker.results.identity import ResultIdentity
from worker.results.part10 import encode
from worker.results.provenance import Provenance
from worker.results.reading import ImageReading, ReportingDevice
from worker.results.structured_report import (
    SOP_CLASS_UID,
    TEMPLATE_VERSION,
    structured_report,
)

MODEL = ModelIdentity("litegpt-test", "1.2", demonstration=False)
PHANTOM = ModelIdentity("litegpt-phantom", "1", demonstration=True)
DEVICE = ReportingDevice(ae_title="LITEGPT", station_uid="2.25.77", software_version="0.1.0")
_KNOWN_WARNINGS = re.compile(
    r"Warning - .*("
    r"DeviceUID.*not present in standard"  # IHE AIR wants it, and the standard has it since
    r"|Unrecognized defined term = <99LITEGPT>"  # a private scheme is none it can know
    r"|would be needed to build DICOMDIR|Retired Person Name form"  # the images' own faults, kept as they are
    r")"
)
THREE = (
    Finding("Nodule/Mass", 0.912, Box(3.25, 4.5, 20, 30)),
    Finding("Cardiomegaly", 0.5, Box(0, 0, 48, 64)),
    Finding("Pneumonia", 0.4),
)


def header(**options: Any) -> Dataset:
    """An image's attributes without its pixels."""
    dataset = make_radiograph(**options)
    del dataset.PixelData
    return dataset


def report(
    readings: Sequence[ImageReading],
    *,
    model: ModelIdentity = MODEL,
    sop_class_uid: str = SOP_CLASS_UID,
    **options: Any,
) -> bytes:
    newest = options.get("patient_header") or readings[-1].header
    identity = ResultIdentity.of(
        study_instance_uid=readings[0].header.StudyInstanceUID,
        input_digest="images",
        model=model,
        settings_digest="settings",
        kind=ResultKind.STRUCTURED_REPORT,
        sop_class_uid=sop_class_uid,
        template_version=TEMPLATE_VERSION,
        patient_header=newest,
    )
    provenance = Provenance(
        model,
        DEVICE,
        options.pop("created_at", datetime(2025, 7, 1, 22, 30, 15, tzinfo=UTC)),
        ZoneInfo("Europe/Berlin"),
        options.pop("patient_header", readings[-1].header),
    )
    return encode(structured_report(readings, identity=identity, provenance=provenance, **options))


@pytest.fixture
def written(tmp_path: Path) -> Any:
    """Writes a report, has it checked by dciodvfy and dsrdump, and gives it back as others read it."""
    count = 0

    def write(readings: Sequence[ImageReading], **options: Any) -> Report:
        nonlocal count
        count += 1
        path = tmp_path / f"{count}.dcm"
        path.write_bytes(report(readings, **options))
        check(path)
        return Report(path)

    return write


def check(path: Path) -> str:
    """Fails where a validator or a reader objects; gives what dsrdump prints."""
    verdict = run_program("dciodvfy", "-new", path, package="dicom3tools").output
    complaints = [line for line in verdict.splitlines() if line.startswith(("Error", "Warning"))]
    assert [line for line in complaints if not _KNOWN_WARNINGS.match(line)] == []
    printed = run_program("dsrdump", path, package="dcmtk")
    assert printed.succeeded and not re.search(r"^[EF]: ", printed.output, re.MULTILINE), printed.output
    return printed.output


def test_findings_become_regions_with_their_certainty(written: Any) -> None:
    image = header()
    read = written([ImageReading(image, THREE)])
    assert [(group.comment, group.certainty) for group in read.groups] == [
        ("Nodule/Mass 0.91", None),
        ("", 91.2),
        ("Cardiomegaly 0.50", None),
        ("", 50.0),
    ]
    nodule, certainty, heart, _ = read.groups
    assert nodule.points == [(3.25, 4.5), (20, 4.5), (20, 30), (3.25, 30), (3.25, 4.5)]
    assert nodule.tracking_identifier == "Cornerstone3DTools@^0.1.0:RectangleROI:Nodule/Mass 1"
    assert certainty.tracking_uid == nodule.tracking_uid
    assert nodule.tracking_uid != heart.tracking_uid
    assert (nodule.finding, nodule.site) == (("4147007", "SCT"), ("39607008", "SCT"))
    for group in read.groups:
        assert group.images == [image.SOPInstanceUID]
        assert group.algorithm == ("litegpt-test", "1.2")
    assert (read.title, read.summary) == ("126000", "111242")
    assert read.library == read.evidence == [image.SOPInstanceUID]
    assert read.value("0008103E") == "AI: 3 findings"


def test_a_diagnosis_is_a_statement_about_the_image(written: Any) -> None:
    image = header()
    read = written([ImageReading(image, THREE)])
    (pneumonia,) = read.evaluations
    assert (pneumonia.name, pneumonia.value) == ("121071", ("233604007", "SCT"))
    assert pneumonia.site == ("39607008", "SCT")
    assert (pneumonia.certainty, pneumonia.comment) == (40.0, "Pneumonia 0.40")
    assert (pneumonia.images, pneumonia.algorithm) == ([image.SOPInstanceUID], ("litegpt-test", "1.2"))
    assert any("Nodule/Mass 0.91, Cardiomegaly 0.50, Pneumonia 0.40" in text for text in read.statements)


def test_every_tracking_identifier_belongs_to_a_region(written: Any) -> None:
    # OHIF shows an error instead of all boxes where a group's does not
    read = written([ImageReading(header(), (*THREE, Finding("COPD", 0.2)))])
    assert {group.tracking_uid for group in read.groups} == {group.tracking_uid for group in read.boxes}


def test_the_document_says_what_it_is(written: Any) -> None:
    image = header()
    read = written([ImageReading(image, THREE)])
    assert read.value("00080016") == "1.2.840.10008.5.1.4.1.1.88.34"
    assert read.value("0020000D") == image.StudyInstanceUID
    assert read.value("0020000E") != image.SeriesInstanceUID
    assert read.value("0040A491") == "COMPLETE"
    assert read.value("0040A493") == "UNVERIFIED"
    assert read.value("0040A496") == "PRELIMINARY"
    # 22:30 UTC is the next day in Berlin, in summer
    assert (read.value("00080201"), read.value("00080023")) == ("+0200", "20250702")
    assert read.value("00080033") == read.value("00080013") == "003015"
    (algorithm,) = read.root["0018A001"]["Value"]
    assert code_value(algorithm) == "109102"
    assert read.value("00081090", algorithm) == "litegpt-test"
    assert read.value("00181020", algorithm) == "1.2"
    assert read.value("00181002", algorithm).startswith("2.25.")
    assert read.value("0018A002", algorithm) == "20250702003015+0200"


def code_value(item: Any) -> str:
    value: str = item["0040A170"]["Value"][0]["00080100"]["Value"][0]
    return value


LEFT, RIGHT = ("7771000", "SCT"), ("24028007", "SCT")


@pytest.mark.parametrize(
    ("orientation", "box", "side"),
    [
        # The usual view: the patient faces us, so the image's right is the patient's left
        (["L", "F"], Box(30, 5, 40, 20), LEFT),
        (["L", "F"], Box(3, 5, 24, 20), RIGHT),
        (["L", "F"], Box(20, 5, 30, 20), None),
        (["R", "F"], Box(30, 5, 40, 20), RIGHT),
        (["LH", "FA"], Box(30, 5, 40, 20), LEFT),
        # Turned by a quarter: the columns lead from side to side
        (["F", "L"], Box(3, 40, 24, 60), LEFT),
        (["F", "R"], Box(30, 3, 40, 30), LEFT),
        (["A", "F"], Box(30, 5, 40, 20), None),  # from the side
        (["L"], Box(30, 5, 40, 20), None),
        (None, Box(30, 5, 40, 20), None),
    ],
)
def test_a_paired_site_has_its_side(
    orientation: list[str] | None, box: Box, side: tuple[str, str] | None, written: Any
) -> None:
    """The image is 48 wide and 64 high."""
    findings = (Finding("Pleural effusion", 0.9, box), Finding("Cardiomegaly", 0.9, box))
    image = header(sop_class=CR, PatientOrientation=orientation)
    effusion, effusion_again, heart, _ = written([ImageReading(image, findings)]).groups
    assert effusion.laterality == effusion_again.laterality == side
    assert heart.site == ("80891009", "SCT") and heart.laterality is None


@pytest.mark.parametrize("label", LABELS)
def test_every_label_is_coded(written: Any, label: str) -> None:
    box = Box(1, 2, 30, 40) if label in LOCAL_LABELS else None
    read = written([ImageReading(header(), (Finding(label, 0.5, box),))])
    codes = LABEL_CODES[label]
    finding = codes.finding and (codes.finding.value, codes.finding.scheme_designator)
    if box:
        first = read.groups[0]
        assert first.finding == finding
    else:
        (first,) = read.evaluations
        assert first.value == (finding or ("111241", "DCM"))
    assert first.site == (codes.site.value, codes.site.scheme_designator)
    assert first.comment == f"{label} 0.50"


def test_the_table_of_codes_has_every_label_once() -> None:
    assert set(LABEL_CODES) == set(LABELS)
    private = [code.finding for code in LABEL_CODES.values() if code.finding and "99" in code.finding[1]]
    assert len(private) == 3
    for codes in LABEL_CODES.values():
        for code in (codes.finding, codes.site):
            assert code is None or (len(code.value) <= 16 and len(code.meaning) <= 64)
    assert LABEL_CODES[NO_FINDING].finding is None


def test_no_finding_is_a_statement_and_not_normal(written: Any) -> None:
    said = written([ImageReading(header(), (Finding(NO_FINDING, 0.93),))])
    (statement,) = said.evaluations
    assert (statement.name, statement.value) == ("111017", ("111241", "DCM"))
    assert (statement.certainty, statement.comment) == (93.0, "No finding 0.93")
    assert said.groups == []
    assert said.title == "18748-4"  # under the title of a measurement report OHIF shows an error
    assert (said.summary, said.value("0008103E")) == ("111241", "AI: no finding")
    silent = written([ImageReading(header())])
    (statement,) = silent.evaluations
    assert (statement.value[0], statement.certainty, statement.comment) == ("111241", None, "No finding")
    assert "17621005" not in str(said.root)  # SNOMED CT "Normal"


def test_no_finding_beside_findings_is_told_but_not_coded(written: Any) -> None:
    read = written([ImageReading(header(), (*THREE, Finding(NO_FINDING, 0.2)))])
    assert [evaluation.name for evaluation in read.evaluations] == ["121071"]
    assert read.summary == "111242"
    assert any('also answered "No finding 0.20"' in statement for statement in read.statements)


def test_findings_below_their_threshold_are_not_in_the_report(written: Any) -> None:
    image = header()
    below = (
        Finding("Pneumothorax", 0.123, Box(1, 1, 9, 9), reported=False),
        Finding("Tuberculosis", 0.056, reported=False),
    )
    read = written([ImageReading(image, (below[0], *THREE, below[1]))])
    assert read.root == written([ImageReading(image, THREE)]).root
    assert "Pneumothorax" not in str(read.root) and "Tuberculosis" not in str(read.root)


@pytest.mark.parametrize(
    ("said", "certainty", "comment"),
    [((), None, "No finding"), ((Finding(NO_FINDING, 0.93),), 93.0, "No finding 0.93")],
)
def test_where_all_findings_are_below_their_thresholds_there_is_no_finding(
    written: Any, said: tuple[Finding, ...], certainty: float | None, comment: str
) -> None:
    below = (
        Finding("Pneumothorax", 0.12, Box(1, 1, 9, 9), reported=False),
        Finding("Tuberculosis", 0.05, reported=False),
    )
    read = written([ImageReading(header(), (*below, *said))])
    (statement,) = read.evaluations
    assert (statement.name, statement.value) == ("111017", ("111241", "DCM"))
    assert (statement.certainty, statement.comment) == (certainty, comment)
    assert (read.groups, read.title, read.value("0008103E")) == ([], "18748-4", "AI: no finding")
    assert any(text.endswith(f": {comment}.") for text in read.statements)


def test_two_images_of_one_study(written: Any) -> None:
    first, second = header(), header(sop_class=CR, rows=100, columns=80)
    second.StudyInstanceUID = first.StudyInstanceUID
    read = written(
        [
            ImageReading(first, (Finding("ILD", 0.7, Box(1, 1, 10, 10)),)),
            ImageReading(second, (Finding("ILD", 0.6, Box(1, 1, 80, 100)),)),
        ]
    )
    assert [group.images for group in read.boxes] == [[first.SOPInstanceUID], [second.SOPInstanceUID]]
    assert [group.tracking_identifier[-5:] for group in read.boxes] == ["ILD 1", "ILD 2"]
    assert len({group.tracking_uid for group in read.boxes}) == 2
    assert (
        sorted(read.evidence) == sorted(read.library) == sorted([first.SOPInstanceUID, second.SOPInstanceUID])
    )


@pytest.mark.parametrize(("findings", "summary"), [(THREE, "111244"), ((), "111243")])
def test_an_image_that_was_not_read_is_named_with_its_reason(
    written: Any, findings: tuple[Finding, ...], summary: str
) -> None:
    read_image, unread, lateral = header(), header(), header()
    unread.StudyInstanceUID = lateral.StudyInstanceUID = read_image.StudyInstanceUID
    del unread.Rows  # whatever is wrong with it
    report_ = written(
        [ImageReading(read_image, findings), ImageReading(unread, not_read="the pixel data is truncated")],
        other_images=[ImageReading(lateral, not_read="a lateral view")],
    )
    assert report_.summary == summary
    assert report_.library == [read_image.SOPInstanceUID]
    told = "\n".join(report_.statements)
    assert f"{unread.SOPInstanceUID} was not read: the pixel data is truncated" in told
    assert f"{lateral.SOPInstanceUID} was not read: a lateral view" in told
    assert "1 of 2 images not read" in report_.value("0008103E")


def test_a_study_of_which_nothing_could_be_read(written: Any) -> None:
    read = written([ImageReading(header(), not_read="the pixel data is truncated")])
    assert read.summary == "111245"
    assert (read.groups, read.evaluations, read.library) == ([], [], [])
    assert read.value("0008103E") == "AI: not read"


def test_an_image_out_of_scope_is_no_failure(written: Any) -> None:
    image, lateral = header(), header()
    lateral.StudyInstanceUID = image.StudyInstanceUID
    read = written([ImageReading(image)], other_images=[ImageReading(lateral, not_read="a lateral view")])
    assert read.summary == "111241"


def test_a_demonstration_says_so(written: Any) -> None:
    read = written([ImageReading(header(), THREE)], model=PHANTOM)
    assert read.statements[0] == DEMONSTRATION
    assert read.value("0008103E") == "DEMONSTRATION AI: 3 findings"
    assert not any("DEMONSTRATION" in text for text in written([ImageReading(header())]).statements)


def test_the_same_input_gives_the_same_bytes() -> None:
    image = header()
    first = report([ImageReading(image, THREE)])
    assert report([ImageReading(image, THREE)]) == first
    again = pydicom.dcmread(BytesIO(first))
    corrected = image.copy()
    corrected.PatientName = "Test^Corrected"
    other = pydicom.dcmread(BytesIO(report([ImageReading(corrected, THREE)])))
    assert other.SOPInstanceUID != again.SOPInstanceUID
    assert other.SeriesInstanceUID != again.SeriesInstanceUID
    for dataset in (again, other):
        assert pydicom.uid.UID(dataset.SOPInstanceUID).is_valid
        assert len({dataset.SOPInstanceUID, dataset.SeriesInstanceUID, image.SOPInstanceUID}) == 3


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_coordinates_equal_the_box(tmp_path: Path, data: st.DataObject) -> None:
    rows, columns = data.draw(st.integers(1, 6000)), data.draw(st.integers(1, 6000))
    image = header(rows=1, columns=1)
    image.Rows, image.Columns = rows, columns
    boxes = []
    for _ in range(data.draw(st.integers(1, 5))):
        x = sorted(data.draw(st.lists(st.floats(0, columns, width=32), min_size=2, max_size=2, unique=True)))
        y = sorted(data.draw(st.lists(st.floats(0, rows, width=32), min_size=2, max_size=2, unique=True)))
        boxes.append(Box(x[0], y[0], x[1], y[1]))
    path = tmp_path / "report.dcm"
    path.write_bytes(report([ImageReading(image, tuple(Finding("ILD", 0.5, box) for box in boxes))]))
    for group, box in zip(Report(path).boxes, boxes, strict=True):
        expected = [
            (box.x_min, box.y_min),
            (box.x_max, box.y_min),
            (box.x_max, box.y_max),
            (box.x_min, box.y_max),
            (box.x_min, box.y_min),
        ]
        # dcm2json prints nine significant digits, as many as a 32-bit float holds
        assert np.allclose(group.points, expected, rtol=1e-7, atol=1e-37)
        assert all(0 <= x <= columns and 0 <= y <= rows for x, y in group.points)


NAMES = {
    "ISO_IR 192": "Müller^Łukasz=山田^太郎=やまだ^たろう",
    "ISO_IR 144": "Люкceмбypг^Иван",
    "\\ISO 2022 IR 87": "Yamada^Tarou=山田^太郎=やまだ^たろう",
    "ISO 2022 IR 13\\ISO 2022 IR 87": "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
    "\\ISO 2022 IR 149": "Hong^Gildong=洪^吉洞=홍^길동",
    "ISO_IR 100": "Äneas^Rüdiger",
    "GB18030": "Wang^XiaoDong=王^小东",
}


@pytest.mark.parametrize("character_set", NAMES)
def test_names_in_any_script_survive(tmp_path: Path, written: Any, character_set: str) -> None:
    image = make_radiograph()
    image.SpecificCharacterSet = character_set.split("\\")
    image.PatientName = NAMES[character_set]
    path = tmp_path / "image.dcm"
    image.save_as(path, enforce_file_format=True)
    read = written([ImageReading(pydicom.dcmread(path, stop_before_pixels=True))])
    assert read.value("00080005") == "ISO_IR 192"
    name = read.value("00100010")
    parts = [name.get(part, "") for part in ("Alphabetic", "Ideographic", "Phonetic")]
    assert "=".join(parts).rstrip("=") == NAMES[character_set]


def test_requests_are_referenced(written: Any) -> None:
    image = header(PlacerOrderNumberImagingServiceRequest="P1", FillerOrderNumberImagingServiceRequest="F1")
    attributes = Dataset()
    attributes.RequestedProcedureID = "RP7"
    attributes.RequestedProcedureDescription = "Chest PA"
    attributes.RequestedProcedureCodeSequence = [Dataset()]
    attributes.RequestedProcedureCodeSequence[0].CodeValue = "36572-6"
    attributes.RequestedProcedureCodeSequence[0].CodingSchemeDesignator = "LN"
    attributes.RequestedProcedureCodeSequence[0].CodeMeaning = "XR Chest AP"
    image.RequestAttributesSequence = [attributes]
    (request,) = written([ImageReading(image)]).root["0040A370"]["Value"]
    read = {tag: request[tag].get("Value", [None])[0] for tag in request}
    assert read["0020000D"] == image.StudyInstanceUID
    assert (read["00080050"], read["00402016"], read["00402017"]) == ("ACC-1", "P1", "F1")
    assert (read["00401001"], read["00321060"]) == ("RP7", "Chest PA")
    assert read["00321064"]["00080100"]["Value"] == ["36572-6"]


def test_without_any_request_none_is_invented(written: Any) -> None:
    assert "0040A370" not in written([ImageReading(header(AccessionNumber=""))]).root


_IDENTIFYING = [
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "PatientAge",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
    "StudyDescription",
    "SpecificCharacterSet",
    "PatientOrientation",
    "ImagerPixelSpacing",
    "Modality",
    "SamplesPerPixel",
    "Manufacturer",
    "SeriesNumber",
]


@pytest.mark.parametrize("sop_class", [CR, DX, SECONDARY_CAPTURE])
def test_headers_that_lack_nearly_everything(written: Any, sop_class: str) -> None:
    image = header(sop_class=sop_class)
    for keyword in _IDENTIFYING:
        if keyword in image:
            delattr(image, keyword)
    read = written([ImageReading(image, THREE)])
    for tag in (
        "00100010",
        "00100020",
        "00100030",
        "00100040",
        "00080020",
        "00080030",
        "00200010",
        "00080050",
    ):
        assert read.value(tag) is None


INVALID_VALUES: dict[str, Any] = {
    "PatientName": "A" * 100,
    "PatientID": "1" * 65,
    "PatientBirthDate": "01.02.1970",
    "PatientSex": "male",
    "PatientAge": "81",
    "StudyDate": "today",
    "StudyTime": "25:00",
    "StudyID": "x" * 17,
    "AccessionNumber": "1234567890123456789",
    "StudyDescription": "Chest\nPA",
    "PatientOrientation": ["left", "down"],
    "ImagerPixelSpacing": "0.4",
}


def set_invalid_values(image: Dataset) -> None:
    """As a modality that knows no value representations would."""
    for keyword, value in INVALID_VALUES.items():
        tag = pydicom.datadict.tag_for_keyword(keyword)
        assert tag is not None
        vr = pydicom.datadict.dictionary_VR(keyword)
        image[tag] = pydicom.DataElement(tag, vr, value, validation_mode=pydicom.config.IGNORE)


@pytest.mark.filterwarnings("ignore")  # pydicom warns of each of these values
def test_values_that_are_not_valid_are_left_empty(written: Any) -> None:
    image = header()
    set_invalid_values(image)
    read = written([ImageReading(image, THREE)])
    assert read.value("00100020") is None
    assert read.value("00080050") is None
    assert "00081030" not in read.root
    assert "00101010" not in read.root


def test_the_newest_header_names_the_patient(written: Any) -> None:
    image = header()
    newest = image.copy()
    newest.PatientID = "MERGED"
    assert written([ImageReading(image)], patient_header=newest).value("00100020") == "MERGED"


def test_a_report_names_the_one_it_replaces(written: Any) -> None:
    image = header()
    before = pydicom.dcmread(BytesIO(report([ImageReading(image)])))
    read = written([ImageReading(image, THREE)], predecessors=[before])
    (study,) = read.root["0040A360"]["Value"]
    (series,) = study["00081115"]["Value"]
    assert read.value("0020000D", study) == image.StudyInstanceUID
    assert read.value("0020000E", series) == before.SeriesInstanceUID
    assert read.value("00081155", series["00081199"]["Value"][0]) == before.SOPInstanceUID


def test_what_cannot_be_reported_on() -> None:
    image = header()
    outside = Finding("ILD", 0.5, Box(500, 500, 600, 600))
    with pytest.raises(ValueError, match="x_min < x_max"):
        report([ImageReading(image, (outside,))])
    with pytest.raises(ValueError, match="not of study"):
        report([ImageReading(image), ImageReading(header())])
    with pytest.raises(ValueError, match="UTC offset"):
        report([ImageReading(image)], created_at=datetime(2025, 1, 1))
    del image.SOPClassUID
    with pytest.raises(ValueError, match="SOPClassUID"):
        report([ImageReading(image)])


def test_highdicom_reads_back_what_went_in(tmp_path: Path) -> None:
    path = tmp_path / "report.dcm"
    path.write_bytes(report([ImageReading(header(), THREE)]))
    content = srread(path).content
    planar = content.get_planar_roi_measurement_groups()
    assert [group.finding_type.meaning for group in planar] == ["Mass", "Cardiomegaly"]
    assert [group.get_measurements()[0].value for group in content.get_image_measurement_groups()] == [
        91.2,
        50,
    ]
    nothing = tmp_path / "nothing.dcm"
    nothing.write_bytes(report([ImageReading(header())]))
    assert srread(nothing).content.get_planar_roi_measurement_groups() == []


@pytest.mark.filterwarnings("ignore:Invalid value for VR AS")  # one of them gives an age of "81"
def test_real_radiographs(written: Any) -> None:
    for path in real_radiographs():
        image = pydicom.dcmread(path, stop_before_pixels=True)
        findings = tuple(
            Finding(label, 0.5, Box(10 * index, 20, 10 * index + 90, 700))
            for index, label in enumerate(LOCAL_LABELS)
        )
        diagnoses = tuple(Finding(label, 0.25) for label in DIAGNOSES[:-1])
        read = written([ImageReading(image, findings + diagnoses)], model=PHANTOM)
        assert (len(read.boxes), len(read.evaluations)) == (22, 5)
        assert read.value("0020000D") == image.StudyInstanceUID
