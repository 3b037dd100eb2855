"""Which images of a dataset are measured on, and what is true of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from litegpt.boxes import Box
from litegpt.errors import RadiographError
from litegpt.vocabulary import LABELS, NO_FINDING
from tests.training.datasets.reading import write
from training.datasets.example import Size
from training.datasets.problems import Tally
from training.errors import TrainingError
from training.evaluation.dataset_subjects import Selection, dataset_subjects
from training.evaluation.statements import Statement
from training.evaluation.subject import Subject


def lines(folder: Path, *items: dict[str, object]) -> Path:
    """JSON lines of the test split, each with an image of 40 by 30 pixels."""
    for number in range(len(items)):
        pixels = np.arange(40 * 30, dtype=np.uint8).reshape(30, 40)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    numbered = ({"image": f"{number}.png", "split": "test", **item} for number, item in enumerate(items))
    return write(folder / "ours.jsonl", *(json.dumps(line) for line in numbered))


def subjects(file: Path, **choices: object) -> list[Subject]:
    return dataset_subjects(Selection("jsonl", file, **choices), Tally())  # type: ignore[arg-type]


def test_the_truth_is_what_readers_agree_on(tmp_path: Path) -> None:
    findings = [
        {"label": "ILD", "box": [1, 2, 21, 22], "reader": "R1"},
        {"label": "ILD", "box": [1, 2, 21, 24], "reader": "R2"},
        {"label": "Edema", "box": [30, 2, 36, 9], "reader": "R2"},
    ]
    labels = [{"label": "COPD", "reader": reader} for reader in ("R1", "R2")]
    labels.append({"label": "Atelectasis", "reader": "R1"})
    readers = ["R1", "R2", "R3"]
    file = lines(tmp_path, {"findings": findings, "labels": labels, "readers": readers})
    (first,) = subjects(file, boxes="first")
    assert first.truth == Statement(
        (("Edema", Box(30, 2, 36, 9)), ("ILD", Box(1, 2, 21, 22))),
        frozenset({"COPD"}),
        frozenset({"Atelectasis"}),
    )
    (most,) = subjects(file, boxes="majority", labels="majority")
    ((label, box),) = most.truth.boxes
    assert label == "ILD"
    assert (box.x_min, box.y_min, box.x_max, box.y_max) == pytest.approx((1, 2, 21, 23))
    assert most.truth.diagnoses == {"COPD"} and not most.truth.present
    # Who draws a box gives the label; where the box is outvoted, the label may stay, without a place
    (mixed,) = subjects(file, boxes="majority", labels="union")
    assert mixed.truth.present == {"Atelectasis", "Edema"}


def test_an_image_of_which_nothing_is_known_is_left_out(tmp_path: Path) -> None:
    file = lines(
        tmp_path, {}, {"labels": [NO_FINDING]}, {"judged": ["Edema"]}, {"judged": []}, {"labels": ["ILD"]}
    )
    found = subjects(file)
    assert [one.image_id for one in found] == ["1.png", "2.png", "4.png"]
    assert [one.judged for one in found] == [frozenset(LABELS), frozenset({"Edema"}), frozenset(LABELS)]
    assert found[2].truth == Statement((), frozenset(), frozenset({"ILD"}))


def test_a_larger_limit_keeps_the_images_of_a_smaller_one(tmp_path: Path) -> None:
    file = lines(tmp_path, *({"labels": [NO_FINDING]} for _ in range(12)))
    chosen = [{one.image_id for one in subjects(file, limit=limit)} for limit in (3, 5, 100)]
    assert [len(names) for names in chosen] == [3, 5, 12]
    assert chosen[0] < chosen[1] < chosen[2]
    assert {"0.png", "1.png", "2.png"} != chosen[0]


def test_images_of_another_split_are_not_measured_on(tmp_path: Path) -> None:
    splits = ("train", "test", "validation", "test")
    file = lines(tmp_path, *({"labels": [NO_FINDING], "split": split} for split in splits))
    for split, names in (("test", ["1.png", "3.png"]), ("validation", ["2.png"]), ("train", ["0.png"])):
        assert [one.image_id for one in subjects(file, split=split)] == names
    assert len(subjects(file, split="all")) == 4


def test_without_images_there_is_nothing_to_read(tmp_path: Path) -> None:
    header = "image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max"
    write(tmp_path / "train.csv", header, "a,No finding,14,R1,,,,")
    with pytest.raises(TrainingError, match="none of the 1 images is there"):
        dataset_subjects(Selection("vinbigdata", tmp_path, split="all"), Tally())


def test_an_image_of_another_size_than_its_boxes_is_refused(tmp_path: Path) -> None:
    (subject,) = subjects(lines(tmp_path, {"labels": [NO_FINDING], "columns": 80, "rows": 60}))
    with pytest.raises(RadiographError, match="40 × 30 pixels, but its boxes are of 80 × 60"):
        subject.load()


def test_boxes_are_cut_to_the_image_and_a_label_without_any_left_has_no_place() -> None:
    truth = Statement((("ILD", Box(30, 10, 50, 20)), ("Edema", Box(41, 0, 50, 9))), frozenset())
    subject = Subject("a", truth, frozenset(LABELS), load=lambda: pytest.fail("not to be loaded"))
    case = subject.case(Size(40, 30))
    assert (case.columns, case.rows) == (40, 30)
    assert case.truth == Statement((("ILD", Box(30, 10, 40, 20)),), frozenset(), frozenset({"Edema"}))
    assert "Edema" not in case.comparable and "ILD" in case.comparable
    unread = subject.case(None)
    assert unread.truth.boxes == truth.boxes and unread.columns > 50
