"""Boxes as files write them: what is read, what is repaired, and what each refusal is called."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from litegpt.boxes import Box
from tests.training.datasets.reading import noted
from training.datasets.example import Size
from training.datasets.problems import Place, Tally
from training.datasets.written_box import BoxColumns

PLACE = Place(Path("a.csv"), 7)
SIZE = Size(100, 80)
CORNERS = BoxColumns()
EXTENT = BoxColumns(("x", "y", "w", "h"), extent=True)


@pytest.mark.parametrize(
    ("cells", "box", "problems"),
    [
        (("10", "20", "30", "40"), (10, 20, 30, 40), []),
        (("0", "0", "100", "80"), (0, 0, 100, 80), []),
        ((" 10.5", "2e1", "30", "40"), (10.5, 20, 30, 40), []),
        (("30", "20", "10", "40"), (10, 20, 30, 40), [("box-reversed", "x_max")]),
        (("10", "40", "30", "20"), (10, 20, 30, 40), [("box-reversed", "y_max")]),
        (("-5", "20", "30", "90"), (0, 20, 30, 80), [("box-outside", "x_min")]),
        (("30", "-1", "-5", "40"), (0, 0, 30, 40), [("box-outside", "x_min"), ("box-reversed", "x_max")]),
        (("100", "20", "130", "40"), None, [("box-off-image", "x_min")]),
        (("10", "20", "10", "40"), None, [("box-empty", "x_max")]),
        (("10", "20", "30", "20"), None, [("box-empty", "y_max")]),
        (("10", "20", "", "40"), None, [("box-incomplete", "x_max")]),
        (("10", "20", "NaN", "40"), None, [("box-incomplete", "x_max")]),
        (("10", "twenty", "30", "40"), None, [("box-number", "y_min")]),
        (("10", "20", "30", "inf"), None, [("box-number", "y_max")]),
        (("10", "20", "1e308", "1e308"), (10, 20, 100, 80), [("box-outside", "x_min")]),
    ],
)
def test_corners(
    cells: tuple[str, ...], box: tuple[float, ...] | None, problems: list[tuple[str, str]]
) -> None:
    tally = Tally(shown=0)
    assert CORNERS.read(cells, SIZE, PLACE, tally) == (Box(*box) if box else None)
    assert sorted(noted(tally)) == sorted((kind, "a.csv", 7, column) for kind, column in problems)


@pytest.mark.parametrize(
    ("cells", "box", "problems"),
    [
        (("10", "20", "30", "40"), (10, 20, 40, 60), []),
        (("80", "20", "30", "40"), (80, 20, 100, 60), ["box-outside"]),
        (("10", "20", "-5", "40"), (5, 20, 10, 60), ["box-reversed"]),
        (("10", "20", "0", "40"), None, ["box-empty"]),
        (("nan", "20", "5", "40"), None, ["box-incomplete"]),
    ],
)
def test_extents(cells: tuple[str, ...], box: tuple[float, ...] | None, problems: list[str]) -> None:
    tally = Tally(shown=0)
    assert EXTENT.read(cells, SIZE, PLACE, tally) == (Box(*box) if box else None)
    assert [kind for kind, *_ in noted(tally)] == problems


def test_without_a_size_only_what_is_negative_lies_outside() -> None:
    tally = Tally(shown=0)
    assert CORNERS.read(("9000", "20", "9100", "40"), None, PLACE, tally) == Box(9000, 20, 9100, 40)
    assert CORNERS.read(("-9", "20", "10", "40"), None, PLACE, tally) == Box(0, 20, 10, 40)
    assert [kind for kind, *_ in noted(tally)] == ["box-outside"]


def test_the_message_says_what_stands_there() -> None:
    tally = Tally()
    CORNERS.read(("30", "20", "110", "40"), SIZE, PLACE, tally)
    (problem,) = tally.first(next(iter(tally.counts)))
    assert str(problem) == "a.csv:7: x_min: (30, 20, 110, 40) reaches outside the image's 100 × 80 pixels"


side = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True).map(str),
    st.floats(-200, 300).map(str),
    st.sampled_from(["", "NaN", "null", "x"]),
)


@given(st.tuples(side, side, side, side))
def test_a_box_is_inside_the_image_or_there_is_a_reason(cells: tuple[str, str, str, str]) -> None:
    tally = Tally()
    box = CORNERS.read(cells, SIZE, PLACE, tally)
    if box is None:
        assert tally.counts
    else:
        assert 0 <= box.x_min < box.x_max <= SIZE.columns
        assert 0 <= box.y_min < box.y_max <= SIZE.rows
        if not tally.counts:
            assert (box.x_min, box.y_min, box.x_max, box.y_max) == tuple(map(float, cells))
