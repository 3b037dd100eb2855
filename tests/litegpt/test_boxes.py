"""Boxes in pixels and on the grid, by hand and by counting."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from litegpt.boxes import GRID, Box, GridBox, about_right, boxes_alike

intervals = st.lists(st.integers(0, GRID), min_size=2, max_size=2, unique=True).map(sorted)
grid_boxes = st.tuples(intervals, intervals).map(
    lambda both: (both[0][0], both[1][0], both[0][1], both[1][1])
)


@pytest.mark.parametrize(
    ("box", "grid"),
    [
        # Of 1000 columns and 760 rows: 12.34, 6.58, 40.00, 50.53 hundredths
        (Box(123.4, 50, 400, 384), (12, 7, 40, 51)),
        (Box(0, 0, 1000, 760), (0, 0, 100, 100)),
        (Box(500, 380, 501, 381), (50, 50, 51, 51)),  # too small for the grid
        (Box(998, 759, 1000, 760), (99, 99, 100, 100)),
        (Box(-50, -10, 1200, 800), (0, 0, 100, 100)),
    ],
)
def test_a_box_on_the_grid_by_hand(box: Box, grid: GridBox) -> None:
    assert box.to_grid(1000, 760) == grid


@given(grid_boxes, st.integers(1, 5000), st.integers(1, 5000))
def test_from_the_grid_and_back(grid: GridBox, columns: int, rows: int) -> None:
    box = Box.from_grid(grid, columns, rows)
    assert 0 <= box.x_min < box.x_max <= columns and 0 <= box.y_min < box.y_max <= rows
    assert box.to_grid(columns, rows) == grid


@given(grid_boxes, grid_boxes)
def test_iou_is_what_counting_pixels_gives(one: GridBox, other: GridBox) -> None:
    pixels = [{(x, y) for x in range(b[0], b[2]) for y in range(b[1], b[3])} for b in (one, other)]
    expected = len(pixels[0] & pixels[1]) / len(pixels[0] | pixels[1])
    assert Box(*one).iou(Box(*other)) == pytest.approx(expected)


@pytest.mark.parametrize("sides", [(5, 5, 5, 9), (9, 5, 5, 9), (1, 4, 2, 4)])
def test_a_box_without_area_is_none(sides: GridBox) -> None:
    with pytest.raises(ValueError, match="a box needs"):
        Box(*sides)


@pytest.mark.parametrize(("width", "height"), [(6, 6), (8, 8), (14, 5)])
def test_boxes_alike_are_about_as_many_as_can_be_counted(width: int, height: int) -> None:
    """On a grid without end, by trying them all; whole steps make some more than a volume has."""
    box = Box(0, 0, width, height)
    count = sum(
        box.iou(Box(x_min, y_min, x_max, y_max)) >= 0.5
        for x_min in range(-width, width)
        for x_max in range(x_min + 1, 3 * width)
        for y_min in range(-height, height)
        for y_max in range(y_min + 1, 3 * height)
    )
    assert count / 1.45 < boxes_alike((0, 0, width, height)) <= count


def test_the_score_of_a_box_by_hand() -> None:
    """0.2208 · 10⁴ boxes, each of 1 in 1104: odds of two to one. Of the smallest box there is only itself."""
    assert about_right((0, 0, 10, 10), 1 / 1104) == pytest.approx(2 / 3)
    assert about_right((10, 10, 11, 11), 1 / 3) == pytest.approx(1 / 4)
