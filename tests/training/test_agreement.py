"""Readers made one: cases worked by hand, and what must hold for any."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from litegpt.boxes import Box
from litegpt.vocabulary import LOCAL_LABELS
from training.agreement import AGREED, agreed, first_of_each, inclusive_iou
from training.datasets.example import Example, MarkedFinding
from training.datasets.problems import Place

HEART, NODULE = "Cardiomegaly", "Nodule/Mass"


def example(*marked: tuple[str, str, Box], **labels: set[str]) -> Example:
    """An example with boxes (reader, label, box), and labels beside those of the boxes, by reader."""
    said = {reader: set(given) for reader, given in labels.items()}
    for reader, label, _ in marked:
        said.setdefault(reader, set()).add(label)
    return Example(
        dataset="vindr-cxr",
        image_id="a",
        image=None,
        patient="a",
        split="train",
        findings=tuple(MarkedFinding(label, box, reader) for reader, label, box in marked),
        labels={reader: frozenset(given) for reader, given in said.items()},
        judged=frozenset(LOCAL_LABELS),
        place=Place(Path("a.csv"), 2),
    )


def boxes(found: Example) -> list[tuple[str, tuple[float, ...]]]:
    """Labels and rounded corners of the findings."""
    assert all(finding.reader == AGREED for finding in found.findings)
    return [
        (
            finding.label,
            tuple(
                round(side, 2)
                for side in (finding.box.x_min, finding.box.y_min, finding.box.x_max, finding.box.y_max)
            ),
        )
        for finding in found.findings
    ]


# R1 and R2 see the heart, 10 pixels apart (IoU 90/110 = 0.82); R3 sees it elsewhere; R2 alone sees a nodule
THREE = example(
    ("R1", HEART, Box(0, 0, 100, 100)),
    ("R2", NODULE, Box(700, 700, 720, 730)),
    ("R3", HEART, Box(400, 400, 500, 500)),
    ("R2", HEART, Box(10, 0, 110, 100)),
)


def test_first_keeps_the_first_row_of_what_overlaps() -> None:
    assert boxes(agreed(THREE, "first", "union")) == [
        (HEART, (0, 0, 100, 100)),
        (HEART, (400, 400, 500, 500)),
        (NODULE, (700, 700, 720, 730)),
    ]


def test_fusion_takes_the_mean_of_what_overlaps() -> None:
    assert boxes(agreed(THREE, "wbf", "union")) == [
        (HEART, (5, 0, 105, 100)),
        (HEART, (400, 400, 500, 500)),
        (NODULE, (700, 700, 720, 730)),
    ]


def test_majority_takes_what_more_than_half_drew() -> None:
    assert boxes(agreed(THREE, "majority", "union")) == [(HEART, (5, 0, 105, 100))]


def test_all_takes_every_box() -> None:
    assert len(agreed(THREE, "all", "union").findings) == 4


def test_three_fused_boxes_are_the_mean_of_three() -> None:
    shifted = [("R1", 0), ("R2", 9), ("R3", 18)]
    three = example(*((reader, HEART, Box(x, x, x + 100, x + 100)) for reader, x in shifted))
    assert boxes(agreed(three, "wbf", "union")) == [(HEART, (9, 9, 109, 109))]


def test_two_boxes_of_one_reader_are_no_majority() -> None:
    twice = example(
        ("R1", HEART, Box(0, 0, 100, 100)), ("R1", HEART, Box(5, 0, 105, 100)), R2=set(), R3=set()
    )
    assert boxes(agreed(twice, "majority", "union")) == []
    assert len(boxes(agreed(twice, "wbf", "union"))) == 1


def test_half_is_no_majority() -> None:
    half = example(("R1", HEART, Box(0, 0, 100, 100)), R2={"COPD"})
    assert agreed(half, "majority", "majority").labels == {AGREED: frozenset()}


def test_a_finding_between_two_groups_is_moved_as_the_published_code_moves_it() -> None:
    # Along a line 25 apart, boxes 101 pixels wide as the published code counts: neighbours have IoU
    # 76/126 = 0.60, next but one 51/151 = 0.34. In the order of rows, 0 meets 3, 1 meets 2, and then 2 meets
    # 3, which leaves the group of 0 for that of 1 and 2. Merged groups would have kept box 0 alone.
    row = [Box(x, 0, x + 100, 100) for x in (0, 75, 50, 25)]
    assert first_of_each(row) == [row[0], row[1]]


def test_a_box_that_meets_a_group_joins_it() -> None:
    row = [Box(0, 0, 100, 100), Box(500, 0, 600, 100), Box(10, 0, 110, 100), Box(35, 0, 135, 100)]
    # 0 meets 2 (IoU 91/111); 2 meets 3 (76/126), which so follows it into the group of 0
    assert inclusive_iou(row[0], row[3]) < 0.5
    assert first_of_each(row) == row[:2]


def test_the_published_iou_counts_corners_as_pixels() -> None:
    # Plain: 16/56. Inclusive: 25/73
    one, other = Box(0, 0, 6, 6), Box(2, 2, 8, 8)
    assert one.iou(other) == pytest.approx(0.286, abs=5e-4)
    assert inclusive_iou(one, other) == pytest.approx(25 / 73)
    # 6/12 is not above one half, 12/20 is
    small = [Box(0, 0, 3, 3), Box(1, 0, 4, 3)]
    assert small[0].iou(small[1]) == 0.5
    assert first_of_each(small) == small[:1]


def test_labels_by_union_and_by_majority() -> None:
    three = example(R1={"COPD", "Pneumonia"}, R2={"COPD"}, R3={"No finding"})
    assert agreed(three, "all", "union").said == {"COPD", "Pneumonia"}
    assert agreed(three, "all", "majority").said == {"COPD"}


def test_no_finding_takes_every_reader_or_the_majority_and_nothing_else() -> None:
    two_of_three = example(("R3", HEART, Box(0, 0, 9, 9)), R1={"No finding"}, R2={"No finding"})
    assert agreed(two_of_three, "majority", "majority").said == {"No finding"}
    assert agreed(two_of_three, "all", "majority").said == {HEART}
    assert agreed(two_of_three, "majority", "union").said == {HEART}
    everybody = example(R1={"No finding"}, R2={"No finding"})
    assert agreed(everybody, "first", "union").said == {"No finding"}
    # R2 saw something that the vocabulary has no word for
    other = example(R1={"No finding"}, R2=set())
    assert agreed(other, "first", "union").said == frozenset()


def test_a_kept_box_keeps_its_label() -> None:
    assert agreed(THREE, "all", "majority").said == {HEART, NODULE}
    assert agreed(THREE, "majority", "majority").said == {HEART}


side = st.integers(0, 300)
some_box = st.builds(
    lambda x, y, width, height: Box(x, y, x + width + 1, y + height + 1), side, side, side, side
)
some_marks = st.lists(
    st.tuples(st.sampled_from(["R1", "R2", "R3"]), st.sampled_from([HEART, NODULE]), some_box), max_size=12
)


@given(some_marks)
def test_no_rule_invents_a_place(marked: list[tuple[str, str, Box]]) -> None:
    found = example(*marked, R1=set(), R2=set(), R3=set())
    every = agreed(found, "all", "union")
    assert sorted(boxes(every)) == sorted(
        (label, (box.x_min, box.y_min, box.x_max, box.y_max)) for _, label, box in marked
    )
    fused = agreed(found, "wbf", "union")
    first = agreed(found, "first", "union")
    assert set(first.findings) <= set(every.findings)
    assert set(agreed(found, "majority", "union").findings) <= set(fused.findings)
    for finding in fused.findings:
        own = [box for _, label, box in marked if label == finding.label]
        assert min(box.x_min for box in own) - 1e-3 <= finding.box.x_min
        assert finding.box.y_max <= max(box.y_max for box in own) + 1e-3
    # Whoever marked something has it in one way or another
    for rule in (every, fused, first):
        assert {finding.label for finding in rule.findings} == {label for _, label, _ in marked}


@given(st.lists(some_box, max_size=8, unique=True))
def test_one_reader_is_not_made_to_agree_with_himself(drawn: list[Box]) -> None:
    alone = example(*(("R1", HEART, box) for box in drawn), R1=set())
    for rule in ("wbf", "majority", "all"):
        assert {finding.box for finding in agreed(alone, rule, "majority").findings} == set(drawn)  # type: ignore[arg-type]


def test_the_order_is_the_vocabulary_s_then_top_to_bottom() -> None:
    found = example(
        ("R1", NODULE, Box(0, 50, 9, 59)), ("R1", NODULE, Box(50, 0, 59, 9)), ("R1", HEART, Box(0, 90, 9, 99))
    )
    assert [corners[:2] for _, corners in boxes(agreed(found, "all", "union"))] == [(0, 90), (50, 0), (0, 50)]
