"""The published rules, by hand and against pixels counted one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from litegpt.boxes import Box, GridBox
from litegpt.vocabulary import NO_FINDING
from training.evaluation.classification import FINDING
from training.evaluation.published import (
    accuracy,
    boxes_in,
    found_boxes,
    grid_iou,
    labels_in,
    without_boxes,
)
from training.evaluation.statements import Answers

SIDES = st.tuples(st.integers(0, 100), st.integers(0, 100)).map(sorted)
GRID_BOXES = st.tuples(SIDES, SIDES).map(lambda both: (both[0][0], both[1][0], both[0][1], both[1][1]))


def local(*items: str) -> str:
    return f"Local diseases of this chest radiograph are {','.join(items)}."


def item(name: str, *box: int) -> str:
    return f"<p>{name}</p> {{" + "".join(f"<{side}>" for side in box) + "}"


def accuracies(reference: str, answer: str) -> list[float]:
    values = accuracy([Answers(reference, "")], [Answers(answer, "")]).values(np.arange(1))
    return list(values.values())


def test_the_iou_reaches_one_step_further() -> None:
    """The worked case: 6 x 6 boxes, the second shifted by 2 in both directions."""
    one, other = (10, 10, 16, 16), (12, 12, 18, 18)
    assert grid_iou(one, other) == pytest.approx(25 / (49 + 49 - 25))
    assert round(grid_iou(one, other), 3) == 0.342
    assert round(Box(*one).iou(Box(*other)), 3) == 0.286


@given(GRID_BOXES, GRID_BOXES)
def test_the_iou_is_that_of_grid_points_counted(one: GridBox, other: GridBox) -> None:
    def points(box: GridBox) -> np.ndarray:
        inside = np.zeros((101, 101), dtype=bool)
        inside[box[1] : box[3] + 1, box[0] : box[2] + 1] = True
        return inside

    both, either = points(one) & points(other), points(one) | points(other)
    assert grid_iou(one, other) == pytest.approx(both.sum() / either.sum())


def test_accuracy_is_the_part_of_the_true_boxes_found() -> None:
    reference = local(
        item("Cardiomegaly", 10, 10, 16, 16), item("Edema", 0, 0, 50, 50), item("ILD", 0, 0, 9, 9)
    )
    answer = local(
        item("Cardiomegaly", 12, 12, 18, 18), item("Edema", 0, 0, 50, 50), item("Edema", 60, 60, 70, 70)
    )
    # Above 0.3 two of three, by the inflated IoU of 0.342; above 0.5 one. The box too many costs nothing.
    assert accuracies(reference, answer) == pytest.approx([2 / 3, 1 / 3])


def test_the_threshold_is_to_be_exceeded() -> None:
    # 10 x 10 points and its upper half: exactly 0.5.
    assert grid_iou((0, 0, 9, 9), (0, 0, 9, 4)) == 0.5
    reference, answer = local(item("Edema", 0, 0, 9, 9)), local(item("Edema", 0, 0, 9, 4))
    assert accuracies(reference, answer) == [1, 0]


def test_one_said_box_may_find_several_true_ones() -> None:
    reference = local(item("Edema", 0, 0, 50, 50), item("Edema", 1, 1, 51, 51))
    assert accuracies(reference, local(item("Edema", 0, 0, 50, 50))) == [1, 1]


@pytest.mark.parametrize(
    "answer",
    [
        item("edema", 0, 0, 50, 50),
        "<p>Edema</p>{<0><0><50><50>}",
        "<p>Edema</p> {<0><0><50>}",
        "<p>Edema</p> {0, 0, 50, 50}",
        "Edema {<0><0><50><50>}",
        "",
    ],
    ids=["other case", "no blank", "three numbers", "no brackets", "no tags", "nothing"],
)
def test_only_what_is_written_exactly_so_is_a_box_of_the_label(answer: str) -> None:
    assert found_boxes(local(item("Edema", 0, 0, 50, 50)), answer, 0.3) == [False]


def test_boxes_are_pooled_over_images_and_not_averaged_by_image() -> None:
    one, three = (
        local(item("ILD", 0, 0, 9, 9)),
        local(*(item("ILD", n, n, n + 9, n + 9) for n in (0, 30, 60))),
    )
    references, answers = [Answers(one, ""), Answers(three, "")], [Answers(one, ""), Answers("", "")]
    values = accuracy(references, answers).values(np.arange(2))
    assert values["accuracy", "published", "0.5"] == pytest.approx(1 / 4)


def test_without_any_true_box_there_is_no_accuracy() -> None:
    assert np.isnan(accuracies(local(NO_FINDING), local(item("Edema", 0, 0, 50, 50)))).all()


def test_a_label_is_said_where_its_name_is_part_of_the_answer() -> None:
    answers = Answers("Mild <p>lung opacity</p> {<1><2><3><4>}", "Other diseases, copd.")
    assert labels_in(answers) == {"ILD", "Lung Opacity", "Other disease", "COPD", FINDING}


def test_each_label_is_looked_for_in_its_own_answer() -> None:
    assert labels_in(Answers("No finding. COPD.", "Edema.")) == {FINDING}
    assert labels_in(Answers("", "No finding.")) == {NO_FINDING}


def test_tags_do_not_part_a_name() -> None:
    assert "Rib fracture" in labels_in(Answers("rib<p> fracture</p>", ""))


def test_boxes_are_taken_out_of_a_text_and_tags_are_not() -> None:
    text = local(item("Edema", 0, 0, 50, 50), item("ILD", 1, 2, 3, 4))
    assert without_boxes(text) == local("<p>Edema</p> ", "<p>ILD</p> ")
    assert boxes_in(text) == {"Edema": [(0, 0, 50, 50)], "ILD": [(1, 2, 3, 4)]}
