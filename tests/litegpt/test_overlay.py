"""The overlay: boxes at the right pixels, labels inside and apart, any size and shape."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from litegpt.boxes import Box
from litegpt.findings import Finding
from litegpt.overlay import draw_overlay, label_colour
from litegpt.radiograph import Radiograph
from litegpt.vocabulary import LABELS, NO_FINDING


def gray(rows: int, columns: int, value: int = 90) -> Radiograph:
    return Radiograph(np.full((rows, columns), value, np.uint8))


def drawn(radiograph: Radiograph, *findings: Finding, demonstration: bool = False) -> NDArray[np.uint8]:
    """The picture: uint8, shape (rows, columns, 3)."""
    picture = draw_overlay(radiograph, findings, demonstration=demonstration)
    assert picture.mode == "RGB"
    return np.asarray(picture)


def extent(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Left, top, right, bottom (exclusive) of the true pixels."""
    rows, columns = np.nonzero(mask)
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_the_outline_lies_on_the_pixels_of_the_box(data: st.DataObject) -> None:
    rows, columns = data.draw(st.integers(100, 400)), data.draw(st.integers(100, 400))
    x_min, y_min = data.draw(st.integers(0, columns - 10)), data.draw(st.integers(0, rows - 10))
    x_max, y_max = data.draw(st.integers(x_min + 5, columns)), data.draw(st.integers(y_min + 5, rows))
    finding = Finding("x" * 500, 0.5, Box(x_min, y_min, x_max, y_max))  # too long to be written anywhere
    mask = (drawn(gray(rows, columns), finding) == label_colour(finding.label)).all(axis=-1)
    assert extent(mask) == (x_min, y_min, x_max, y_max)
    for edge in (mask[y_min, x_min:x_max], mask[y_max - 1, x_min:x_max]):
        assert edge.all()
    for edge in (mask[y_min:y_max, x_min], mask[y_min:y_max, x_max - 1]):
        assert edge.all()
    assert not mask[y_min + 2 : y_max - 2, x_min + 2 : x_max - 2].any()


def test_what_is_not_reported_is_not_drawn() -> None:
    shown = Finding("Cardiomegaly", 0.9, Box(40, 40, 160, 160)), Finding("COPD", 0.6)
    hidden = (
        Finding("ILD", 0.2, Box(20, 20, 180, 90), reported=False),
        Finding("Pneumonia", 0.1, reported=False),
    )
    assert np.array_equal(drawn(gray(200, 200), *shown, *hidden), drawn(gray(200, 200), *shown))
    assert np.array_equal(drawn(gray(200, 200), *hidden), drawn(gray(200, 200)))


def test_fractions_of_a_pixel_belong_to_the_box() -> None:
    finding = Finding("x" * 500, 0.5, Box(10.2, 20.9, 30.1, 40.0))
    mask = (drawn(gray(200, 200), finding) == label_colour(finding.label)).all(axis=-1)
    assert extent(mask) == (10, 20, 31, 40)


@pytest.mark.parametrize(
    ("rows", "columns"), [(1, 1), (1, 5000), (5000, 1), (2, 2), (9, 300), (64, 48), (1024, 940), (3000, 2500)]
)
@pytest.mark.parametrize("demonstration", [False, True])
def test_any_size_keeps_its_size(rows: int, columns: int, demonstration: bool) -> None:
    findings = [
        Finding("Nodule/Mass", 0.91, Box(0, 0, columns, rows)),
        Finding("Cardiomegaly", 0.91, Box(columns * 0.4, rows * 0.4, columns * 0.41, rows * 0.41)),
        Finding("Pneumonia", 0.4),
        Finding(NO_FINDING, 0.4),
    ]
    assert drawn(gray(rows, columns), *findings, demonstration=demonstration).shape == (rows, columns, 3)


def test_nothing_said_nothing_drawn() -> None:
    assert (drawn(gray(300, 200)) == 90).all()


def test_a_demonstration_is_marked_in_the_picture() -> None:
    picture = drawn(gray(400, 300), demonstration=True)
    assert (picture[-1] != 90).any()
    assert (drawn(gray(400, 300), Finding(NO_FINDING, 1.0))[-1] == 90).all()


def test_boxes_outside_the_image_are_listed_instead() -> None:
    outside = Finding("Nodule/Mass", 0.5, Box(900, 900, 950, 950))
    listed = Finding("Nodule/Mass", 0.5)
    assert (drawn(gray(400, 300), outside) == drawn(gray(400, 300), listed)).all()


def test_the_diagnoses_stay_out_of_the_boxes() -> None:
    box = Box(0, 0, 200, 200)
    with_box = drawn(gray(400, 400), Finding("x" * 500, 0.5, box), Finding("Pneumonia", 0.4))
    without = drawn(gray(400, 400), Finding("x" * 500, 0.5, box))
    assert (with_box[:200, :200] == without[:200, :200]).all()
    assert (with_box != without).any()


def test_labels_do_not_cover_one_another() -> None:
    # Three boxes side by side whose labels would collide, all being above their box
    findings = [
        Finding(label, 0.9, Box(100 + 40 * number, 200, 130 + 40 * number, 260))
        for number, label in enumerate(("Pleural thickening", "Pulmonary fibrosis", "Aortic enlargement"))
    ]
    alone = [drawn(gray(500, 500), finding) for finding in findings]
    together = drawn(gray(500, 500), *findings)
    for finding, picture in zip(findings, alone, strict=True):
        # As much of the label's own colour as when it stands alone, but for lines that cross
        colour = np.array(label_colour(finding.label))
        count = chip(picture, colour).sum()
        assert count > 500
        assert chip(together, colour).sum() >= 0.97 * count


def test_no_line_goes_through_the_letters_of_a_label() -> None:
    """Every label at about the same place: most stand off, each with a line to its box. Letters are black."""
    findings = [
        Finding(label, 0.5, Box(300 + 9 * number, 450 + 9 * number, 450 + 9 * number, 600 + 9 * number))
        for number, label in enumerate(LABELS)
    ]
    light = gray(1200, 1000, 250)
    alone = [black(drawn(light, finding)) for finding in findings]
    assert min(alone) > 100
    assert black(drawn(light, *findings)) >= sum(alone)


def black(picture: NDArray[np.uint8]) -> int:
    return int((picture.max(axis=-1) < 8).sum())


def chip(picture: NDArray[Any], colour: NDArray[Any]) -> NDArray[np.bool_]:
    """Pixels of a label's slightly translucent ground."""
    return np.abs(picture.astype(int) - (colour * 225 + 90 * 30) / 255).max(axis=-1) <= 2


def test_every_label_has_a_colour_of_its_own() -> None:
    colours = [np.array(label_colour(label)) for label in LABELS]
    assert min(np.abs(a - b).sum() for a, b in itertools.combinations(colours, 2)) > 30
    assert label_colour("Something new") == label_colour("Something new")
