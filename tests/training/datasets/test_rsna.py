"""RSNA Pneumonia: targets, classes, and the mapping that tells the patients."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from litegpt.boxes import Box
from tests.training.datasets.reading import Noted, read, touch, write
from training.datasets.example import Example, MarkedFinding
from training.errors import DatasetError

LABELS = "patientId,x,y,width,height,Target"
CLASSES = "patientId,class"


def read_rows(folder: Path, labels: list[str], classes: list[str]) -> tuple[list[Example], list[Noted]]:
    write(folder / "stage_2_train_labels.csv", LABELS, *labels)
    write(folder / "stage_2_detailed_class_info.csv", CLASSES, *classes)
    return read("rsna", folder)


def test_boxes_and_classes_are_joined(tmp_path: Path) -> None:
    examples, problems = read_rows(
        tmp_path,
        ["a,264.0,152.0,213.0,379.0,1", "a,562.0,152.0,256.0,453.0,1", "b,,,,,0", "c,,,,,0"],
        # The real file repeats a class for each box of an image
        ["a,Lung Opacity", "a,Lung Opacity", "b,No Lung Opacity / Not Normal", "c,Normal"],
    )
    opaque, abnormal, normal = examples
    assert opaque.findings == (
        MarkedFinding("Lung Opacity", Box(264, 152, 477, 531), "published"),
        MarkedFinding("Lung Opacity", Box(562, 152, 818, 605), "published"),
    )
    assert [sorted(example.said) for example in examples] == [["Lung Opacity"], [], ["No finding"]]
    assert all(example.judged == {"Lung Opacity", "No finding"} for example in examples)
    assert abnormal.split is normal.split is None
    assert problems == [("unmapped-class", "stage_2_detailed_class_info.csv", 4, "class")]


def test_without_classes_only_opacity_is_judged(tmp_path: Path) -> None:
    write(tmp_path / "stage_2_train_labels.csv", LABELS, "b,,,,,0")
    (example,), problems = read("rsna", tmp_path)
    assert (example.said, example.judged) == (frozenset(), {"Lung Opacity"})
    assert problems == []


def test_the_mapping_tells_the_patients(tmp_path: Path) -> None:
    entries = [
        {"img_id": "00002992_017.png", "subset_img_id": "a", "orig_labels": ["Mass"]},
        {"img_id": "00002992_001.png", "subset_img_id": "b", "orig_labels": ["Mass"]},
    ]
    (tmp_path / "pneumonia-challenge-dataset-mappings_2018.json").write_text(json.dumps(entries))
    examples, _ = read_rows(tmp_path, ["a,,,,,0", "b,,,,,0", "c,,,,,0"], [])
    assert [example.patient for example in examples] == ["00002992", "00002992", "c"]


def test_another_json_is_not_the_mapping(tmp_path: Path) -> None:
    (tmp_path / "pneumonia-challenge-dataset-mappings_2018.json").write_text('{"a": 1}')
    with pytest.raises(DatasetError, match=r"mappings_2018\.json: is not the RSNA's mapping"):
        read_rows(tmp_path, ["a,,,,,0"], [])


def test_images_are_found_and_missed(tmp_path: Path) -> None:
    image = touch(tmp_path / "stage_2_train_images" / "a.dcm")
    (example,), problems = read_rows(tmp_path, ["a,,,,,0", "b,,,,,0"], [])
    assert example.image == image
    assert problems == [("missing-image", "stage_2_train_labels.csv", 3, "patientId")]


@pytest.mark.parametrize(
    ("labels", "classes", "said", "boxes", "expected"),
    [
        (["a,1,2,3,4,0"], [], {"Lung Opacity"}, 1, [("label-contradicts-box", 2, "Target")]),
        (["a,,,,,1"], [], {"Lung Opacity"}, 0, [("box-missing", 2, "x")]),
        (["a,1000,2,300,4,1"], [], {"Lung Opacity"}, 1, [("box-outside", 2, "x")]),
        (["a,1,2,3,,1"], [], {"Lung Opacity"}, 0, [("box-incomplete", 2, "height")]),
        (["a,1,2,3,4,1", "a,1,2,3,4,1"], [], {"Lung Opacity"}, 1, [("duplicate-row", 3, "")]),
        (["a,,,,,0", "a,,,,,0"], [], set(), 0, [("duplicate-row", 3, "")]),
        (["a,,,,,0", "a,1,2,3,4,1"], [], set(), 0, [("contradictory-row", 3, "Target")]),
        (["a,,,,,"], [], set(), 0, [("label-missing", 2, "Target")]),
        (["a,,,,,2"], [], set(), 0, [("label-value", 2, "Target")]),
        (["a,1,2,3,4,1"], ["a,Gout"], {"Lung Opacity"}, 1, [("unknown-class", 2, "class")]),
        (["a,,,,,0"], ["a,Lung Opacity"], {"Lung Opacity"}, 0, [("label-contradicts-box", 2, "class")]),
        (["a,,,,,0"], ["a,Normal", "b,Normal"], {"No finding"}, 0, [("no-labels", 3, "patientId")]),
        (
            ["a,1,2,3,4,1"],
            ["a,Normal"],
            {"Lung Opacity"},
            1,
            [("label-contradicts-box", 2, "class"), ("reader-contradicts", 2, "class")],
        ),
        (
            ["a,1,2,3,4,1"],
            ["a,Lung Opacity", "a,Normal"],
            {"Lung Opacity"},
            1,
            [("contradictory-row", 3, "class")],
        ),
    ],
)
def test_rows_that_are_not_as_they_should_be(
    tmp_path: Path,
    labels: list[str],
    classes: list[str],
    said: set[str],
    boxes: int,
    expected: list[tuple[str, int, str]],
) -> None:
    (example,), problems = read_rows(tmp_path, labels, classes)
    assert example.said == said
    assert len(example.findings) == boxes
    assert sorted((kind, line, column) for kind, _, line, column in problems) == sorted(expected)
