"""The Secondary Capture: valid, the image with its boxes where they belong, and saying what it is."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
from hypothesis import given, settings
from hypothesis import strategies as st

from litegpt.boxes import Box
from litegpt.findings import Finding
from litegpt.identity import ModelIdentity
from litegpt.overlay import label_colour
from litegpt.vocabulary import NO_FINDING
from tests.images import make_radiograph
from tests.peers.dicom3tools import dciodvfy
from tests.presence import real_radiographs
from tests.worker.results.images_read import PHANTOM, capture_of, of_every_form
from tests.worker.results.results_read import shown


def picture(content: bytes) -> npt.NDArray[np.uint8]:
    return pydicom.dcmread(BytesIO(content)).pixel_array


def seen_by_dcmtk(content: bytes, folder: Path) -> npt.NDArray[np.uint8]:
    """(rows, columns, 3), as dcm2pnm shows it."""
    file = folder / "capture.dcm"
    file.write_bytes(content)
    return shown(file)


def of_colour(shown: npt.NDArray[np.uint8], colour: tuple[int, int, int]) -> npt.NDArray[np.bool_]:
    return np.all(shown == np.array(colour, np.uint8), axis=2)  # (rows, columns)


def outline(shown: npt.NDArray[np.uint8], colour: tuple[int, int, int]) -> Box:
    """The box whose lines have this colour: a row or column counts where most of its length has it."""
    lines = of_colour(shown, colour)  # (rows, columns)
    rows, columns = lines.sum(axis=1), lines.sum(axis=0)
    across, down = np.flatnonzero(rows > rows.max() / 2), np.flatnonzero(columns > columns.max() / 2)
    return Box(int(down[0]), int(across[0]), int(down[-1]) + 1, int(across[-1]) + 1)


@of_every_form
def test_it_is_valid(
    sop_class: str, findings: Sequence[Finding], model: ModelIdentity, tmp_path: Path
) -> None:
    image = make_radiograph(sop_class=sop_class, rows=400, columns=300)
    (tmp_path / "capture.dcm").write_bytes(capture_of(image, findings, model=model))
    assert not dciodvfy(tmp_path / "capture.dcm")


def test_it_says_what_it_is() -> None:
    image = make_radiograph(rows=400, columns=300, PatientName="Doe^Jane", PatientOrientation=["L", "F"])
    found = pydicom.dcmread(BytesIO(capture_of(image, model=PHANTOM, number=2)))
    assert found.ImageType[:2] == ["DERIVED", "SECONDARY"] and found.BurnedInAnnotation == "YES"
    assert found.StudyInstanceUID == image.StudyInstanceUID
    assert found.SeriesInstanceUID != image.SeriesInstanceUID
    assert (found.Rows, found.Columns, found.InstanceNumber) == (400, 300, 2)
    assert found.SourceImageSequence[0].ReferencedSOPInstanceUID == image.SOPInstanceUID
    assert found.PatientName == "Doe^Jane" and found.PatientOrientation == ["L", "F"]
    assert found.SeriesDescription == "DEMONSTRATION AI: 1 finding"
    assert (found.ContentDate, found.ContentTime, found.TimezoneOffsetFromUTC) == (
        "20250702", "003015", "+0200",
    )  # fmt: skip
    (algorithm,) = found.ContributingEquipmentSequence
    assert (algorithm.ManufacturerModelName, algorithm.SoftwareVersions) == ("litegpt-phantom", "1")


def test_the_same_reading_gives_the_same_bytes_and_images_have_their_own() -> None:
    image = make_radiograph(rows=400, columns=300)
    assert capture_of(image) == capture_of(image)
    other = make_radiograph(rows=400, columns=300, study_uid=image.StudyInstanceUID)
    one, two = (pydicom.dcmread(BytesIO(capture_of(each))) for each in (image, other))
    assert one.SeriesInstanceUID != two.SeriesInstanceUID or one.SOPInstanceUID != two.SOPInstanceUID
    assert one.SOPInstanceUID != two.SOPInstanceUID


def test_no_finding_is_written_on_the_picture() -> None:
    """The strip at the lower edge is there with and without findings, with other words."""
    image = make_radiograph(rows=400, columns=300)
    empty, full = picture(capture_of(image, ())), picture(capture_of(image))
    said = picture(capture_of(image, (Finding(NO_FINDING, 0.9),)))
    strip = slice(-20, None)
    assert (empty[strip] != full[strip]).any()
    assert (empty == said).all()
    assert not of_colour(empty, label_colour("Nodule/Mass")).any()


@settings(deadline=None, max_examples=30)
@given(data=st.data())
def test_a_box_is_drawn_on_its_own_pixels(data: st.DataObject) -> None:
    rows, columns = data.draw(st.integers(200, 500)), data.draw(st.integers(200, 500))
    photometric = data.draw(st.sampled_from(["MONOCHROME1", "MONOCHROME2"]))
    left, top = data.draw(st.floats(0, columns - 60)), data.draw(st.floats(0, rows - 120))
    box = Box(left, top, left + data.draw(st.floats(30, 60)), top + data.draw(st.floats(30, 60)))
    image = make_radiograph(rows=rows, columns=columns, photometric=photometric)
    drawn = outline(picture(capture_of(image, (Finding("ILD", 0.5, box),))), label_colour("ILD"))
    for side in ("x_min", "y_min", "x_max", "y_max"):
        assert abs(getattr(drawn, side) - getattr(box, side)) < 1  # it covers the pixels that the box touches


def test_the_image_under_it_is_the_one_that_is_displayed(tmp_path: Path) -> None:
    """Against dcmtk's own display of the image, both ways of saying which end is white."""
    for photometric in ("MONOCHROME1", "MONOCHROME2"):
        image = make_radiograph(rows=400, columns=300, photometric=photometric)
        file = tmp_path / f"{photometric}.dcm"
        image.save_as(file, enforce_file_format=True)
        window = ("+Wi", "1") if "WindowCenter" in image else ("+Wm",)
        theirs = shown(file, *window).astype(int)
        ours = seen_by_dcmtk(capture_of(image, ()), tmp_path)[:300, :, 0].astype(int)
        assert np.abs(ours - theirs[:300]).max() <= 2


def test_real_radiographs(tmp_path: Path) -> None:
    for number, file in enumerate(real_radiographs()):
        image = pydicom.dcmread(file)
        rows, columns = int(image.Rows), int(image.Columns)
        box = Box(columns * 0.2, rows * 0.3, columns * 0.5, rows * 0.6)
        content = capture_of(image, (Finding("Consolidation", 0.77, box), Finding("Pneumonia", 0.6)))
        place = tmp_path / f"{number}.dcm"
        place.write_bytes(content)
        assert not dciodvfy(place), file
        drawn = outline(picture(content), label_colour("Consolidation"))
        assert abs(drawn.x_min - box.x_min) < 1 and abs(drawn.y_max - box.y_max) < 1
