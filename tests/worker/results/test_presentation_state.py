"""The presentation state: valid, its boxes where they belong, and the image displayed as it was read.

Others read it: dcmtk's dcm2json for what it says, dcmp2pgm for the grayscale, dcmpschk and dciodvfy.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from litegpt.boxes import Box
from litegpt.findings import Finding
from litegpt.identity import ModelIdentity
from litegpt.radiograph import read_radiograph
from tests.images import SECONDARY_CAPTURE, make_radiograph
from tests.litegpt.test_grayscale import lut, square
from tests.peers.dcmtk import run_program
from tests.peers.dicom3tools import dciodvfy
from tests.presence import real_radiographs
from tests.worker.results.images_read import ONE, PHANTOM, of_every_form, state_of

Item = dict[str, Any]


def read(content: bytes, folder: Path) -> Item:
    file = folder / "state.dcm"
    file.write_bytes(content)
    ended = run_program("dcm2json", "+fc", file, package="dcmtk")
    assert ended.succeeded, ended.output
    found: Item = json.loads(ended.output[ended.output.index("{") :])
    return found


def graphics(state: Item) -> list[list[float]]:
    """Graphic Data of every graphic, which has to be a closed polyline of four corners in PIXEL units."""
    (annotation,) = state["00700001"]["Value"]
    found = []
    for item in annotation.get("00700009", {}).get("Value", []):
        assert item["00700005"]["Value"] == ["PIXEL"] and item["00700023"]["Value"] == ["POLYLINE"]
        data = item["00700022"]["Value"]
        assert len(data) == 10 and data[:2] == data[-2:]
        found.append(data)
    return found


def texts(state: Item) -> list[str]:
    (annotation,) = state["00700001"]["Value"]
    return [item["00700006"]["Value"][0] for item in annotation["00700008"]["Value"]]


def check(path: Path) -> None:
    assert not dciodvfy(path)
    ended = run_program("dcmpschk", path, package="dcmtk")
    assert ended.succeeded and "Test passed" in ended.output, ended.output


def shown_by_dcmtk(image: Dataset, state: bytes, folder: Path) -> npt.NDArray[np.uint8]:
    """(rows, columns): the image through the presentation state, by dcmp2pgm."""
    image.save_as(folder / "image.dcm", enforce_file_format=True)
    (folder / "state.dcm").write_bytes(state)
    shown = folder / "shown.pgm"
    ended = run_program("dcmp2pgm", "-p", folder / "state.dcm", folder / "image.dcm", shown, package="dcmtk")
    assert ended.succeeded, ended.output
    pixels = int(image.Rows) * int(image.Columns)
    return np.frombuffer(shown.read_bytes()[-pixels:], np.uint8).reshape(int(image.Rows), int(image.Columns))


@of_every_form
def test_it_is_valid(
    sop_class: str, findings: Sequence[Finding], model: ModelIdentity, tmp_path: Path
) -> None:
    image = make_radiograph(sop_class=sop_class, rows=400, columns=300)
    (tmp_path / "state.dcm").write_bytes(state_of(image, findings, model=model))
    check(tmp_path / "state.dcm")


def test_it_says_what_was_found_and_by_whom(tmp_path: Path) -> None:
    image = make_radiograph(rows=400, columns=300, PatientName="Doe^Jane")
    content = state_of(image, (*ONE, Finding("Pneumonia", 0.5)), model=PHANTOM, number=2)
    label, statement = texts(read(content, tmp_path))
    assert label == "Nodule/Mass 0.91"
    assert statement.split("\r\n") == [
        "DEMONSTRATION - not for clinical use",
        "litegpt-phantom 1: 2 findings",
        "AI, not for diagnosis by itself",
        "Pneumonia 0.50",
    ]
    found = pydicom.dcmread(BytesIO(content))
    (series,) = found.ReferencedSeriesSequence
    assert series.ReferencedImageSequence[0].ReferencedSOPInstanceUID == image.SOPInstanceUID
    assert (found.InstanceNumber, found.PatientName) == (2, "Doe^Jane")
    assert found.GraphicLayerSequence[0].GraphicLayerDescription == "litegpt-phantom 1"
    assert (found.PresentationCreationDate, found.PresentationCreationTime) == ("20250702", "003015")
    assert state_of(image) == state_of(image)


def test_no_finding_reads_as_such(tmp_path: Path) -> None:
    state = read(state_of(make_radiograph(), ()), tmp_path)
    assert graphics(state) == []
    assert texts(state) == ["litegpt-test 1.2: no finding\r\nAI, not for diagnosis by itself"]


_SMALL = read_radiograph(make_radiograph())


@settings(deadline=None, max_examples=50)
@given(data=st.data())
def test_boxes_are_where_they_were_found(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    image = make_radiograph()
    image.Rows, image.Columns = data.draw(st.integers(20, 5000)), data.draw(st.integers(20, 5000))
    sides = []
    for length in (image.Columns, image.Rows):
        low = data.draw(st.floats(0, length - 1))
        sides.append((low, data.draw(st.floats(low + 0.5, length))))
    (left, right), (top, bottom) = sides
    findings = (Finding("ILD", 0.5, Box(left, top, right, bottom)),)
    state = read(state_of(image, findings, radiograph=_SMALL), tmp_path_factory.mktemp("state"))
    (found,) = graphics(state)
    assert found[:8] == pytest.approx(
        [left, top, right, top, right, bottom, left, bottom], rel=1e-6, abs=1e-6
    )


@pytest.mark.parametrize("top", [0.0, 2.0, 200.0], ids=["at the edge", "near it", "below it"])
def test_texts_stand_in_boxes_of_their_own(top: float, tmp_path: Path) -> None:
    """Above the finding where there is room, and always inside the image: else viewers show none of them."""
    image = make_radiograph(rows=400, columns=300)
    found = (Finding("Nodule/Mass", 0.91, Box(40, top, 220, 300)), Finding("Pneumonia", 0.5))
    (annotation,) = read(state_of(image, found), tmp_path)["00700001"]["Value"]
    assert "00081140" not in annotation  # it applies to the one image that the state refers to
    label, corner = annotation["00700008"]["Value"]
    for item in (label, corner):
        assert item["00700003"]["Value"] == ["PIXEL"] and item["00700012"]["Value"] == ["LEFT"]
        assert "00700014" not in item  # no anchor point: each viewer keeps its own distance from one
    (left, above), (right, below) = label["00700010"]["Value"], label["00700011"]["Value"]
    assert (left, right) == (40, 300)
    assert 0 <= above < below <= max(top, 15)
    assert corner["00700010"]["Value"] == [0, 0]
    assert corner["00700011"]["Value"] == pytest.approx([300, 36])  # three lines


def test_dcmtk_applies_the_annotations_to_the_image(tmp_path: Path) -> None:
    image = make_radiograph(rows=400, columns=300)
    image.save_as(tmp_path / "image.dcm", enforce_file_format=True)
    (tmp_path / "state.dcm").write_bytes(state_of(image))
    ended = run_program(
        "dcmp2pgm", "-v", "-p", tmp_path / "state.dcm", tmp_path / "image.dcm", tmp_path / "shown.pgm",
        package="dcmtk",
    )  # fmt: skip
    assert "Number of text objects: 2" in ended.output and "Number of graphic objects: 1" in ended.output


SIGNED = np.linspace(-900, 1000, 64 * 48).reshape(64, 48).astype(np.int16)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"photometric": "MONOCHROME1"},
        {"WindowCenter": 1200, "WindowWidth": 900},
        {"WindowCenter": 1200.5, "WindowWidth": 899.5, "VOILUTFunction": "LINEAR_EXACT"},
        {"WindowCenter": None, "WindowWidth": None},
        {"WindowCenter": 700, "WindowWidth": 900, "RescaleSlope": 0.5, "RescaleIntercept": -10},
        {"WindowCenter": None, "WindowWidth": None, "VOILUTSequence": [lut(0, 12, square(4096, 12))]},
        {"ModalityLUTSequence": [lut(0, 16, square(4096, 16))], "WindowCenter": 30000, "WindowWidth": 50000},
        {"pixels": SIGNED, "WindowCenter": 0, "WindowWidth": 1500},
        {"pixels": SIGNED, "VOILUTSequence": [lut(-1000, 8, square(2001, 8))]},
    ],
    ids=[
        "plain", "monochrome1", "window", "exact", "percentiles", "rescale", "lut", "modality-lut", "signed",
        "signed-lut",
    ],
)  # fmt: skip
def test_the_image_is_displayed_as_it_was_read(options: dict[str, Any], tmp_path: Path) -> None:
    image = make_radiograph(**options)
    shown = shown_by_dcmtk(image, state_of(image, ()), tmp_path).astype(int)
    assert np.abs(shown - read_radiograph(image).pixels).max() <= 2


def test_a_colour_image_has_none() -> None:
    pixels = np.arange(64 * 48 * 3, dtype=np.uint8).reshape(64, 48, 3)
    with pytest.raises(ValueError, match="colour"):
        state_of(make_radiograph(pixels, bits_stored=8, photometric="RGB", sop_class=SECONDARY_CAPTURE))


def test_real_radiographs(tmp_path: Path) -> None:
    for number, file in enumerate(real_radiographs()):
        image = pydicom.dcmread(file)
        rows, columns = int(image.Rows), int(image.Columns)
        box = Box(columns * 0.2, rows * 0.3, columns * 0.5, rows * 0.6)
        content = state_of(image, (Finding("Consolidation", 0.77, box), Finding("Pneumonia", 0.6)))
        place = tmp_path / f"{number}.dcm"
        place.write_bytes(content)
        check(place)
        (found,) = graphics(read(content, tmp_path))
        assert found[:2] == pytest.approx([box.x_min, box.y_min], rel=1e-6)
