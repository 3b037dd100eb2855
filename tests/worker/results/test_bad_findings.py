"""Bad input for every kind of result: a valid object or a recorded reason comes of it, nothing invalid."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any

import pydicom
import pytest
from pydicom import Dataset
from pydicom.tag import Tag

from litegpt.boxes import Box
from litegpt.findings import Finding
from litegpt.vocabulary import LOCAL_LABELS
from tests.images import CR, DX, make_radiograph
from tests.peers.dcmtk import dsrdump, run_program
from tests.peers.dicom3tools import dciodvfy
from tests.worker.conftest import SmallNode, small_node
from tests.worker.results.images_read import capture_of, state_of
from tests.worker.results.random_studies import GSPS, SC, SR, SR_2D, Image, SayingEngine
from tests.worker.results.reports import Report
from tests.worker.results.test_presentation_state import graphics, read, texts
from tests.worker.results.test_structured_report import report, set_invalid_values
from worker.analysis import Analyst
from worker.results.reading import ImageReading

Make = Callable[[Dataset, Sequence[Finding]], bytes]

ROWS, COLUMNS = 400, 300
INSIDE = Finding("Nodule/Mass", 0.5, Box(20, 30, 120, 90))


def _report_of(image: Dataset, findings: Sequence[Finding], *, sop_class_uid: str) -> bytes:
    header = Dataset({tag: image[tag] for tag in image.keys() if tag != 0x7FE00010})  # noqa: SIM118
    return report([ImageReading(header, tuple(findings))], sop_class_uid=sop_class_uid)


KINDS: dict[str, Make] = {
    SR: partial(_report_of, sop_class_uid=SR),
    SR_2D: partial(_report_of, sop_class_uid=SR_2D),
    GSPS: state_of,
    SC: capture_of,
}
of_every_kind = pytest.mark.parametrize("kind", KINDS, ids=["sr-3d", "sr-2d", "gsps", "sc"])


def _image(**attributes: Any) -> Dataset:
    return make_radiograph(rows=ROWS, columns=COLUMNS, **attributes)


def _checked(content: bytes, folder: Path) -> Path:
    """The file of a result that its peers have nothing against."""
    file = folder / "result.dcm"
    file.write_bytes(content)
    assert dciodvfy(file) == []
    result = pydicom.dcmread(file, stop_before_pixels=True)
    if result.SOPClassUID in (SR, SR_2D):
        assert "SR Document" in dsrdump(file)
    elif result.SOPClassUID == GSPS:
        said = re.sub(
            r"^W: (Testing: .*|)\n", "", run_program("dcmpschk", file, package="dcmtk").output, flags=re.M
        )
        # The standard lets the name be empty (type 2), dcmtk does not
        nameless = (
            "W: patientName absent or empty in presentation state\nW: Test failed - one or more errors.\n"
        )
        assert said == ("W: Test passed.\n" if result.PatientName else nameless)
    else:
        assert run_program("dcm2pnm", file, folder / "shown.ppm", package="dcmtk").succeeded
    return file


def _without_patient(image: Dataset) -> None:
    for keyword in (
        "PatientID",
        "PatientName",
        "PatientBirthDate",
        "PatientSex",
        "StudyID",
        "AccessionNumber",
    ):
        delattr(image, keyword)


def _with_private_elements(image: Dataset) -> None:
    block = image.private_block(0x0011, "SOMEBODY ELSE", create=True)
    block.add_new(0x01, "LO", "of their own")
    item = Dataset()
    item.private_block(0x0011, "SOMEBODY ELSE", create=True).add_new(0x01, "LO", "also in a sequence")
    image.RequestAttributesSequence = [item]
    image.add_new(Tag(0x0013, 0x1001), "UN", b"without its creator")


@of_every_kind
@pytest.mark.parametrize("sop_class", [CR, DX], ids=["cr", "dx"])
@pytest.mark.parametrize("spoil", [_without_patient, set_invalid_values, _with_private_elements])
@pytest.mark.filterwarnings("ignore")  # pydicom warns of each value that is not valid
def test_an_image_with_a_bad_header(
    spoil: Callable[[Dataset], None], sop_class: str, kind: str, tmp_path: Path
) -> None:
    image = _image(sop_class=sop_class)
    spoil(image)
    result = pydicom.dcmread(_checked(KINDS[kind](image, [INSIDE, Finding("COPD", 0.4)]), tmp_path))
    assert not any(element.tag.is_private for element in result.iterall())
    if spoil is not _with_private_elements:
        assert not result.PatientID and not result.AccessionNumber
    else:
        assert (result.PatientID, result.AccessionNumber) == ("TEST-1", "ACC-1")


@of_every_kind
@pytest.mark.parametrize(
    ("box", "inside"),
    [
        (Box(-50, -60, 70, 80), (0, 0, 70, 80)),
        (Box(250, 380, 900, 900), (250, 380, 300, 400)),
        (Box(-math.inf, -math.inf, math.inf, math.inf), (0, 0, 300, 400)),
        (Box(299.99999, 10, 300.5, 20), (299.99999, 10, 300, 20)),  # one point across as 32-bit floats
    ],
    ids=["upper-left", "lower-right", "endless", "hardly"],
)
def test_a_finding_partly_outside_is_cut_at_the_edge(
    box: Box, inside: tuple[float, float, float, float], kind: str, tmp_path: Path
) -> None:
    file = _checked(KINDS[kind](_image(), [Finding("ILD", 0.5, box)]), tmp_path)
    left, top, right, bottom = inside
    corners = [left, top, right, top, right, bottom, left, bottom, left, top]
    if kind in (SR, SR_2D):
        (group,) = Report(file).boxes
        assert [number for point in group.points for number in point] == pytest.approx(corners, abs=1e-4)
    elif kind == GSPS:
        assert graphics(read(file.read_bytes(), tmp_path)) == [pytest.approx(corners, abs=1e-4)]
    else:
        cut = KINDS[kind](_image(), [Finding("ILD", 0.5, Box(*inside))])
        assert _pixels(file.read_bytes()) == _pixels(cut)


def _pixels(content: bytes) -> bytes:
    pixels: bytes = pydicom.dcmread(BytesIO(content)).PixelData
    return pixels


OUTSIDE = pytest.mark.parametrize(
    "box",
    [Box(500, 500, 600, 600), Box(-90, 10, -1, 20), Box(COLUMNS, 10, COLUMNS + 9, 20)],
    ids=["beyond", "before", "touching"],
)


@OUTSIDE
def test_a_finding_outside_has_no_place_in_a_report_and_is_listed_in_a_picture(
    box: Box, tmp_path: Path
) -> None:
    outside = [INSIDE, Finding("ILD", 0.5, box)]
    for kind in (SR, SR_2D, GSPS):
        with pytest.raises(ValueError, match="x_min < x_max"):
            KINDS[kind](_image(), outside)
    file = _checked(KINDS[SC](_image(), outside), tmp_path)
    listed = [INSIDE, Finding("ILD", 0.5)]
    assert _pixels(file.read_bytes()) == _pixels(KINDS[SC](_image(), listed))


@OUTSIDE
@pytest.mark.parametrize("kinds", ["sr+gsps+sc", "gsps"])
def test_why_there_is_no_result_is_written_down(kinds: str, box: Box, tmp_path: Path) -> None:
    node = small_node(tmp_path / "node", destinations=[f"PACS@127.0.0.1:1={kinds}"])
    image = Image(_image(), (Finding("ILD", 0.5, box),))
    _analyse(node, image)
    view = node.show(image.dataset.StudyInstanceUID)
    assert (view.analysis_state, view.attempt, view.deliveries) == ("failed", 1, ())
    assert view.error.startswith("a box needs x_min < x_max and y_min < y_max, not Box(")
    assert list((node.archive.root / "results").iterdir()) == []
    node.records.close()
    node.bell.close()


def _analyse(node: SmallNode, image: Image) -> None:
    node.take(image.dataset)
    analyst = Analyst(node.settings, node.records, node.archive, node.bell)
    analyst.engines.load = lambda _: SayingEngine({image.uid: image})
    analyst.drain()


@pytest.mark.parametrize("corners", [(5, 5, 5, 9), (5, 5, 9, 5), (9, 5, 5, 9), (math.nan, 5, 9, 9)])
def test_there_is_no_finding_without_an_area(corners: tuple[float, float, float, float]) -> None:
    with pytest.raises(ValueError, match="x_min < x_max"):
        Box(*corners)


@of_every_kind
@pytest.mark.parametrize("label", ["Tree-in-bud sign", "Nodules and more " * 9], ids=["plain", "long"])
def test_a_label_without_a_code(label: str, kind: str, tmp_path: Path) -> None:
    findings = [Finding(label, 0.5, INSIDE.box), Finding(label, 0.25)]
    file = _checked(KINDS[kind](_image(), findings), tmp_path)
    if kind in (SR, SR_2D):
        said = Report(file)
        for value, scheme in (said.boxes[0].finding or ("", ""), said.evaluations[0].value):
            assert value and scheme == "99LITEGPT"
        assert (said.boxes[0].comment, said.evaluations[0].comment) == (f"{label} 0.50", f"{label} 0.25")
    elif kind == GSPS:
        words, whole = texts(read(file.read_bytes(), tmp_path))
        assert words == f"{label} 0.50" and whole.endswith(f"\r\n{label} 0.25")


@of_every_kind
def test_forty_findings_in_one_image(kind: str, tmp_path: Path) -> None:
    random = Random(40)
    findings = []
    for number in range(40):
        left, top = random.randint(0, COLUMNS - 40), random.randint(0, ROWS - 40)
        box = Box(left, top, left + random.randint(5, 40), top + random.randint(5, 40))
        findings.append(Finding(LOCAL_LABELS[number % len(LOCAL_LABELS)], random.random(), box))
    file = _checked(KINDS[kind](_image(), findings), tmp_path)
    captions = [f"{finding.label} {finding.score:.2f}" for finding in findings]
    if kind in (SR, SR_2D):
        assert [group.comment for group in Report(file).boxes] == captions
    elif kind == GSPS:
        state = read(file.read_bytes(), tmp_path)
        assert texts(state)[:-1] == captions
        assert len(graphics(state)) == 40
    assert str(pydicom.dcmread(file).SeriesDescription) == "AI: 40 findings"
