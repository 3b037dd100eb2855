"""What a radiologist sees of a report in OHIF: every box where it was found, and no error without any."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset

from litegpt.boxes import Box
from litegpt.findings import Finding
from litegpt.phantoms import phantom_files
from litegpt.vocabulary import LOCAL_LABELS
from tests.images import make_radiograph
from tests.presence import real_radiographs
from tests.viewer.conftest import Screen
from tests.viewer.ohif import ohif
from tests.worker.results.images_read import PHANTOM
from tests.worker.results.test_structured_report import report
from worker.results.reading import ImageReading


def _findings(image: Dataset) -> tuple[Finding, ...]:
    """Five boxes all over an image, one of them up to its edges, none like another; and a diagnosis."""
    width, height = image.Columns, image.Rows
    shares = [(0, 0, 0.3, 0.2), (0.1, 0.3, 0.45, 0.5), (0.52, 0.27, 0.58, 0.31), (0.3, 0.6, 0.8, 0.9)]
    boxes = [
        Box(left * width, top * height, right * width, bottom * height) for left, top, right, bottom in shares
    ]
    boxes.append(Box(width * 0.77, height * 0.81, width, height))
    labelled = [Finding(label, 0.9, box) for label, box in zip(LOCAL_LABELS, boxes, strict=False)]
    return (*labelled, Finding("Pneumonia", 0.6))


def _write(path: Path, *readings: ImageReading) -> Path:
    path.write_bytes(report(readings, model=PHANTOM))
    return path


@pytest.mark.parametrize("number", range(7))
def test_the_boxes_of_a_real_radiograph_stand_where_they_were_found(
    number: int, screen: Screen, tmp_path: Path
) -> None:
    _see_boxes(real_radiographs()[number], screen, tmp_path)


def test_the_boxes_of_a_phantom_stand_where_they_were_found(screen: Screen, tmp_path: Path) -> None:
    _see_boxes(phantom_files()[0], screen, tmp_path)


def _see_boxes(file: Path, screen: Screen, folder: Path) -> None:
    image = pydicom.dcmread(file, stop_before_pixels=True)
    findings = _findings(image)
    screen.show(file, _write(folder / "report.dcm", ImageReading(image, findings)))
    with ohif(screen.browser) as page:
        page.open(screen.viewer.address_of(image.StudyInstanceUID), series=2)
        page.open_report()
        boxes = [finding.box for finding in findings if finding.box]
        drawn = page.rectangles(len(boxes))
        page.screenshot(screen.picture(file.stem))
        labels = page.labels()
    assert len(drawn) == len(boxes)
    expected = sorted((box.x_min, box.y_min, box.x_max, box.y_max) for box in boxes)
    for corners, seen in zip(expected, sorted(one.corners for one in drawn), strict=True):
        assert seen == pytest.approx(corners, abs=1)
    assert sorted(labels) == sorted(f"{finding.label} 0.90" for finding in findings if finding.box)
    assert page.complaints == []


def test_a_box_stands_around_what_is_on_the_screen(screen: Screen, tmp_path: Path) -> None:
    """Against the pixels of the screen themselves: a bright square, and the box that is to be around it."""
    pixels = np.full((150, 200), 400, np.uint16)
    left, top, right, bottom = 60, 30, 110, 120
    pixels[top:bottom, left:right] = 3600
    image, file = make_radiograph(pixels), tmp_path / "image.dcm"
    image.save_as(file, enforce_file_format=True)
    del image.PixelData
    box = Finding("Nodule/Mass", 0.9, Box(left, top, right, bottom))
    screen.show(file, _write(tmp_path / "report.dcm", ImageReading(image, (box,))))
    with ohif(screen.browser) as page:
        page.open(screen.viewer.address_of(image.StudyInstanceUID), series=2)
        page.open_report()
        (drawn,) = page.rectangles(1)
        page.screenshot(screen.picture("bright-square"))
        picture, (x, y) = page.image_on_screen(screen.picture("bright-square-alone"))
    shown = np.asarray(Image.open(picture).convert("L"), float)[10:-10, 10:-10]  # without its frame
    bright = shown > (shown.min() + shown.max()) / 2
    columns, rows = (
        np.flatnonzero(bright.mean(0) > 0.2) + x + 10,
        np.flatnonzero(bright.mean(1) > 0.2) + y + 10,
    )
    square = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    size_of_a_pixel = (square[2] - square[0]) / (right - left)
    assert size_of_a_pixel > 3
    assert drawn.screen == pytest.approx(square, abs=size_of_a_pixel / 2)


@pytest.mark.parametrize("was_read", [True, False], ids=["no finding", "not read"])
def test_a_study_without_boxes_opens_without_an_error(was_read: bool, screen: Screen, tmp_path: Path) -> None:
    image, file = make_radiograph(), tmp_path / "image.dcm"
    image.save_as(file, enforce_file_format=True)
    del image.PixelData
    reading = ImageReading(image, not_read=None if was_read else "the pixel data is truncated")
    screen.show(file, _write(tmp_path / "report.dcm", reading))
    with ohif(screen.browser) as page:
        page.open(screen.viewer.address_of(image.StudyInstanceUID), series=2)
        described = dict(page.series())["SR"]
        page.open_report()
        assert page.rectangles() == []
        page.screenshot(screen.picture("no-finding" if was_read else "not-read"))
        text = page.text()
    assert described == f"DEMONSTRATION AI: {'no finding' if was_read else 'not read'}"
    assert "Something went wrong" not in text
    assert page.complaints == []
