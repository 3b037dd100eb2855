"""Fifty random studies: every result of each is valid to others, and says exactly what was put in.

The validators are dicom3tools and dcmtk; what reports say is read by highdicom, what pictures and
presentation states say by pydicom. The codes expected are those that the conformance statement promises.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pydicom
import pytest
from highdicom.sr import Comprehensive3DSR, ComprehensiveSR, srread
from pydicom import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import UID

from litegpt.findings import Finding
from litegpt.vocabulary import LABELS, NO_FINDING
from tests.conformance import table
from tests.peers.dcmtk import run_program
from tests.peers.dicom3tools import dciodvfy
from tests.peers.dicom_validator import dicom_validator
from tests.worker.conftest import small_node
from tests.worker.results.random_studies import (
    COUNTS,
    GSPS,
    NAMES,
    SC,
    SR,
    SR_2D,
    Image,
    Study,
    draw_studies,
    make_results_of,
)

SEED = 20250701
BERLIN = {"time_zone": "Europe/Berlin"}
"""dcmpschk 3.6.7 takes UTC's own offset, +0000, for no offset at all, and objects."""
CODES = {
    label: [re.findall(r"\(([\w-]+), (\w+)", cell) for cell in cells]
    for label, *cells in table("Labels and codes")
}
NOTHING_FOUND = ("111241", "DCM")
QUALITATIVE_EVALUATIONS = Code("C0034375", "UMLS", "Qualitative Evaluations")
IMAGE_LIBRARY = Code("111028", "DCM", "Image Library")

Statement = tuple[str, tuple[str, str], float | None, str]
"""SOP Instance UID of an image, code, percent, words."""


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Study]]:
    drawn = draw_studies(SEED, 50)
    folder = tmp_path_factory.mktemp("random")
    node = small_node(folder / "node", destinations=["PACS@127.0.0.1:1=sr+gsps+sc"], **BERLIN)
    make_results_of(drawn, node)
    yield drawn
    node.records.close()
    node.bell.close()


def _files(studies: Sequence[Study], *sop_classes: str) -> list[Path]:
    return [file for study in studies for uid in sop_classes for file in study.files.get(uid, [])]


def test_the_studies_are_of_every_form(studies: list[Study]) -> None:
    """Else the other tests would say less than they seem to."""
    images = [image for study in studies for image in study.images]
    assert {finding.label for image in images for finding in image.findings if finding.reported} == set(
        LABELS
    )
    counts = [
        sum(finding.label != NO_FINDING for image in study.images for finding in image.findings)
        for study in studies
    ]
    assert set(counts) >= set(COUNTS) and max(counts) == 20
    assert {len(study.images) for study in studies} == {1, 2, 3}
    assert {study.character_set for study in studies} == set(NAMES)
    assert sum(bool(image.not_read) for image in images) > 3
    for present in (True, False):
        assert any(image.is_grayscale is present for image in images)
        assert any(bool(image.dataset.AccessionNumber) is present for image in images)
        assert any(finding.reported is present for image in images for finding in image.findings)


def test_each_study_has_all_its_results(studies: list[Study]) -> None:
    for study in studies:
        states = sum(image.is_grayscale for image in study.read)
        expected = {SR: 1, SR_2D: 1, SC: len(study.read), GSPS: states}
        assert Counter({uid: len(files) for uid, files in study.files.items()}) == Counter(expected)


def test_dciodvfy_finds_no_error(studies: list[Study]) -> None:
    assert {file: errors for file in _files(studies, SR, SR_2D, GSPS, SC) if (errors := dciodvfy(file))} == {}


def test_dicom_validator_misses_nothing(studies: list[Study]) -> None:
    assert {
        file: errors for file in _files(studies, SR, SR_2D, GSPS, SC) if (errors := dicom_validator(file))
    } == {}


def test_dsrdump_reads_the_reports(studies: list[Study]) -> None:
    reports = _files(studies, SR, SR_2D)
    ended = run_program("dsrdump", *reports, package="dcmtk")
    assert ended.succeeded
    assert re.findall(r"^[EF]: .*", ended.output, re.MULTILINE) == []
    titles = re.findall(r"^(?:Comprehensive|Comprehensive 3D) SR Document$", ended.output, re.MULTILINE)
    assert Counter(titles) == {"Comprehensive SR Document": 50, "Comprehensive 3D SR Document": 50}


def test_dcmpschk_passes_the_presentation_states(studies: list[Study]) -> None:
    """But for names beyond ASCII: it looks at single bytes, whatever the character set."""
    states = {
        file: NAMES[study.character_set].isascii() for study in studies for file in study.files.get(GSPS, [])
    }
    ended = run_program("dcmpschk", *states, package="dcmtk")
    verdicts = re.split(r"^W: Testing: ", ended.output, flags=re.MULTILINE)[1:]
    for file, ascii_name, verdict in zip(states, states.values(), verdicts, strict=True):
        assert verdict.startswith(str(file))
        assert re.findall(r"Affected attribute: (\w+)", verdict) == ([] if ascii_name else ["PatientName"])
        assert verdict.count("Error") == (0 if ascii_name else 1), verdict
        assert ("Test passed" in verdict) == ascii_name
    assert set(states.values()) == {True, False}


def test_the_patient_is_the_images(studies: list[Study]) -> None:
    for study in studies:
        image = study.images[0].dataset
        for file in _files([study], SR, SR_2D, GSPS, SC):
            result = pydicom.dcmread(file, stop_before_pixels=True)
            assert result.PatientName == NAMES[study.character_set]
            assert result.SpecificCharacterSet == "ISO_IR 192"
            for keyword in ("PatientID", "PatientSex", "AccessionNumber", "StudyInstanceUID", "StudyDate"):
                assert result[keyword].value == image[keyword].value


@pytest.mark.parametrize(
    ("sop_class", "kind"), [(SR, Comprehensive3DSR), (SR_2D, ComprehensiveSR)], ids=["3d", "2d"]
)
def test_highdicom_reads_back_what_went_in(
    studies: list[Study], sop_class: str, kind: type[Comprehensive3DSR | ComprehensiveSR]
) -> None:
    tracked: list[str] = []
    for study in studies:
        report = srread(_files([study], sop_class)[0])
        assert type(report) is kind
        tracked += _check_boxes(study, report.content)
        (root,) = report.content
        (container,) = root.ContentSequence.find(name=QUALITATIVE_EVALUATIONS)
        assert sorted(_coded(container)) == sorted(_expected(study))
        texts = [item.value for item in container.ContentSequence if item.ValueType == "TEXT"]
        for image in study.images:
            reason = f"Image {image.uid} was not read: {image.not_read}"
            assert (reason in texts) == bool(image.not_read)
        assert sorted(_evidence(report)) == sorted(image.uid for image in study.images)
        assert sorted(_library(root)) == sorted(image.uid for image in study.read)
    assert len(set(tracked)) == len(tracked)
    assert all(UID(uid).is_valid for uid in tracked)


def _check_boxes(study: Study, content: Any) -> list[str]:
    """Regions and certainties against the boxes that went in; the tracking UIDs."""
    regions, certainties = content.get_planar_roi_measurement_groups(), content.get_image_measurement_groups()
    boxes = [(image, finding) for image in study.read for finding in image.boxed]
    assert len(regions) == len(certainties) == len(boxes)
    by_image = {image.uid: iter(image.boxed) for image in study.read}
    for number, (region, certainty) in enumerate(zip(regions, certainties, strict=True), start=1):
        (source,) = certainty.source_images
        uid = str(source.referenced_sop_instance_uid)
        assert _images(region) == [uid]
        finding = next(by_image[uid])
        name = f"{finding.label} {number}"
        assert region.tracking_identifier == f"Cornerstone3DTools@^0.1.0:RectangleROI:{name}"
        assert certainty.tracking_identifier == name
        assert certainty.tracking_uid == region.tracking_uid
        left, top, right, bottom = _corners(finding)
        outline = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]
        assert region.roi.value.tolist() == outline
        assert [measured.value for measured in certainty.get_measurements()] == [_percent(finding)]
        for group in (region, certainty):
            assert [_code(group.finding_type)] == CODES[finding.label][0]
            assert [_code(site.value) for site in group.finding_sites] == CODES[finding.label][1]
        *_, words = (item.value for item in region[0].ContentSequence if item.ValueType == "TEXT")
        assert words == _caption(finding)
    assert all(next(left_over, None) is None for left_over in by_image.values())
    return [str(region.tracking_uid) for region in regions]


def _expected(study: Study) -> Iterator[Statement]:
    """The coded statements on whole images: diagnoses, or that nothing was found."""
    for image in study.read:
        for finding in image.told:
            if not finding.box:
                (code,) = CODES[finding.label][0]
                yield image.uid, code, _percent(finding), _caption(finding)
        if not image.told:
            said = [finding for finding in image.findings if finding.label == NO_FINDING]
            words = _caption(said[0]) if said else NO_FINDING
            yield image.uid, NOTHING_FOUND, _percent(said[0]) if said else None, words


def _coded(container: Any) -> Iterator[Statement]:
    for item in container.ContentSequence:
        children = item.get("ContentSequence", [])
        if item.ValueType == "CODE" and children:
            (uid,) = _images(children)
            percents = [float(child.value) for child in children if child.ValueType == "NUM"]
            *_, words = (child.value for child in children if child.ValueType == "TEXT")
            yield uid, _code(item.value), percents[0] if percents else None, words


def _images(content: Any) -> list[str]:
    """SOP Instance UIDs that content items refer to, however deep."""
    found = []
    for item in content:
        if item.ValueType == "IMAGE":
            found.append(str(item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID))
        found += _images(item.get("ContentSequence", []))
    return found


def _library(root: Any) -> list[str]:
    (library,) = root.ContentSequence.find(name=IMAGE_LIBRARY)
    return _images(library.ContentSequence)


def _evidence(report: Dataset) -> list[str]:
    (study,) = report.CurrentRequestedProcedureEvidenceSequence
    return [
        str(item.ReferencedSOPInstanceUID)
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    ]


def test_presentation_states_say_what_went_in(studies: list[Study]) -> None:
    for study in studies:
        of_image = {
            str(state.ReferencedSeriesSequence[0].ReferencedImageSequence[0].ReferencedSOPInstanceUID): state
            for state in map(pydicom.dcmread, _files([study], GSPS))
        }
        assert of_image.keys() == {image.uid for image in study.read if image.is_grayscale}
        for image in study.read:
            if image.is_grayscale:
                _check_state(image, of_image[image.uid])


def _check_state(image: Image, state: Dataset) -> None:
    (annotation,) = state.GraphicAnnotationSequence
    drawn = [list(item.GraphicData) for item in annotation.get("GraphicObjectSequence", [])]
    corners = [_corners(finding) for finding in image.boxed]
    assert drawn == [
        [left, top, right, top, right, bottom, left, bottom, left, top]
        for left, top, right, bottom in corners
    ]
    *labels, whole = (str(item.UnformattedTextValue) for item in annotation.TextObjectSequence)
    assert labels == [_caption(finding) for finding in image.boxed]
    listed = [_caption(finding) for finding in image.told if not finding.box]
    assert whole.split("\r\n")[-len(listed) :] == listed if listed else "no finding" in whole or image.boxed
    (area,) = state.DisplayedAreaSelectionSequence
    assert area.DisplayedAreaBottomRightHandCorner == [image.dataset.Columns, image.dataset.Rows]


def test_pictures_are_of_the_images_that_were_read(studies: list[Study]) -> None:
    for study in studies:
        of_image = {
            str(picture.SourceImageSequence[0].ReferencedSOPInstanceUID): picture
            for picture in map(pydicom.dcmread, _files([study], SC))
        }
        assert of_image.keys() == {image.uid for image in study.read}
        for image in study.read:
            picture = of_image[image.uid]
            assert picture.pixel_array.shape == (image.dataset.Rows, image.dataset.Columns, 3)
            found = len(image.told)
            words = f"{found} finding{'s' if found > 1 else ''}" if found else "no finding"
            assert str(picture.SeriesDescription).endswith(f"AI: {words}")


def _corners(finding: Finding) -> tuple[float, float, float, float]:
    assert finding.box
    return finding.box.x_min, finding.box.y_min, finding.box.x_max, finding.box.y_max


def _percent(finding: Finding) -> float:
    """Scores are thousandths."""
    return round(finding.score * 1000) / 10


def _caption(finding: Finding) -> str:
    return f"{finding.label} {finding.score:.2f}"


def _code(code: Any) -> tuple[str, str]:
    return str(code.value), str(code.scheme_designator)
