"""VinDr-CXR's four files: boxes and labels of each reader joined, and what is said where they differ."""

from __future__ import annotations

from pathlib import Path

import pytest

from litegpt.boxes import Box
from litegpt.vocabulary import DIAGNOSES, LABELS, LOCAL_LABELS
from tests.training.datasets.reading import Noted, read, touch, write
from training.datasets.example import Example, MarkedFinding
from training.errors import DatasetError

MARKS = "image_id,rad_id,class_name,x_min,y_min,x_max,y_max"
TRAIN = (*LOCAL_LABELS, "COPD", "Lung tumor", "Pneumonia", "Tuberculosis", "Other diseases", "No finding")
TEST = (*LOCAL_LABELS, "COPD", "Lung tumor", "Pneumonia", "Tuberculosis", "Other disease", "No finding")


def row(image: str, reader: str | None, *ones: str, columns: tuple[str, ...] = TRAIN) -> str:
    """A row of a label file."""
    assert set(ones) <= set(columns)
    return ",".join(
        [image, *([reader] if reader else []), *("1" if name in ones else "0" for name in columns)]
    )


def write_train(folder: Path, marks: list[str], labels: list[str]) -> None:
    write(folder / "annotations_train.csv", MARKS, *marks)
    write(folder / "image_labels_train.csv", ",".join(["image_id", "rad_id", *TRAIN]), *labels)


def read_train(folder: Path, marks: list[str], labels: list[str]) -> tuple[Example, list[Noted]]:
    write_train(folder, marks, labels)
    (example,), problems = read("vindr-cxr", folder)
    return example, problems


def test_both_splits_and_both_spellings_of_other_disease(tmp_path: Path) -> None:
    annotations = tmp_path / "annotations"
    write_train(
        annotations,
        ["a,R1,Nodule/Mass,10,20,30,40", "a,R2,No finding,,,,"],
        [row("a", "R1", "Nodule/Mass", "Other diseases"), row("a", "R2", "No finding")],
    )
    write(annotations / "annotations_test.csv", MARKS.replace("rad_id,", ""), "b,ILD,1,2,3,4")
    labels = row("b", None, "ILD", "Other disease", columns=TEST)
    write(annotations / "image_labels_test.csv", ",".join(["image_id", *TEST]), labels)
    (test, train), problems = read("vindr-cxr", tmp_path)
    assert (train.split, test.split) == ("train", "test")
    assert train.findings == (MarkedFinding("Nodule/Mass", Box(10, 20, 30, 40), "R1"),)
    assert train.labels == {"R1": {"Nodule/Mass", "Other disease"}, "R2": {"No finding"}}
    assert test.labels == {"published": {"ILD", "Other disease"}}
    assert train.judged == test.judged == set(LABELS)
    assert problems == [("readers-disagree", "annotations_train.csv", 2, "")]


def test_the_test_file_is_one_consensus_even_if_its_boxes_name_readers(tmp_path: Path) -> None:
    write(tmp_path / "annotations_test.csv", MARKS, "b,R4,ILD,1,2,3,4")
    labels = row("b", None, "ILD", columns=TEST)
    write(tmp_path / "image_labels_test.csv", ",".join(["image_id", *TEST]), labels)
    (example,), problems = read("vindr-cxr", tmp_path)
    assert example.readers == ("published",)
    assert problems == []


def test_images_of_each_split_lie_in_its_folder(tmp_path: Path) -> None:
    write_train(tmp_path / "annotations", [], [row("a", "R1", "No finding"), row("b", "R1", "No finding")])
    image = touch(tmp_path / "train" / "a.dicom")
    touch(tmp_path / "test" / "b.dicom")
    for path in (tmp_path, tmp_path / "annotations"):
        (example,), problems = read("vindr-cxr", path)
        assert example.image == image
        assert problems == [("missing-image", "image_labels_train.csv", 3, "image_id")]


def test_an_image_in_both_splits_stays_in_the_test_split(tmp_path: Path) -> None:
    write_train(tmp_path, [], [row("a", "R1", "No finding")])
    write(tmp_path / "annotations_test.csv", MARKS)
    labels = row("a", None, "No finding", columns=TEST)
    write(tmp_path / "image_labels_test.csv", ",".join(["image_id", *TEST]), labels)
    (example,), problems = read("vindr-cxr", tmp_path)
    assert example.split == "test"
    assert problems == [("two-splits", "image_labels_train.csv", 2, "split")]


def test_a_label_without_a_box_and_a_box_without_the_label_both_count(tmp_path: Path) -> None:
    marks = ["a,R1,ILD,1,2,3,4"]
    example, problems = read_train(tmp_path, marks, [row("a", "R1", "Edema", "Pneumonia")])
    assert example.labels == {"R1": {"ILD", "Edema", "Pneumonia"}}
    assert [finding.label for finding in example.findings] == ["ILD"]
    assert problems == [
        ("label-contradicts-box", "image_labels_train.csv", 2, "ILD"),
        ("label-contradicts-box", "image_labels_train.csv", 2, "Edema"),
    ]


def test_no_finding_in_one_file_and_a_box_in_the_other(tmp_path: Path) -> None:
    example, problems = read_train(tmp_path, ["a,R1,ILD,1,2,3,4"], [row("a", "R1", "No finding")])
    assert example.labels == {"R1": {"ILD"}}
    assert [kind for kind, *_ in problems] == ["reader-contradicts", "label-contradicts-box"]


def test_a_reader_of_the_boxes_who_gave_no_labels_is_told(tmp_path: Path) -> None:
    marks = ["a,R1,ILD,1,2,3,4", "a,R2,ILD,1,2,3,4"]
    example, problems = read_train(tmp_path, marks, [row("a", "R1", "ILD")])
    assert example.labels == {"R1": {"ILD"}, "R2": {"ILD"}}
    assert problems == [("label-contradicts-box", "annotations_train.csv", 2, "rad_id")]


def test_a_value_that_is_no_label_leaves_it_unknown(tmp_path: Path) -> None:
    cells = row("a", "R1", "COPD").split(",")
    cells[2 + LABELS.index("ILD")] = "NaN"
    cells[2 + LABELS.index("Edema")] = ""
    cells[2 + LABELS.index("Pneumonia")] = "yes"
    example, problems = read_train(tmp_path, [], [",".join(cells), row("a", "R2")])
    assert example.judged == set(LABELS) - {"ILD", "Edema", "Pneumonia"}
    assert example.said == {"COPD"}
    assert problems == [
        ("label-missing", "image_labels_train.csv", 2, "Edema"),
        ("label-missing", "image_labels_train.csv", 2, "ILD"),
        ("label-value", "image_labels_train.csv", 2, "Pneumonia"),
    ]


def test_a_label_column_that_is_not_there_is_unknown(tmp_path: Path) -> None:
    write(tmp_path / "annotations_train.csv", MARKS)
    write(tmp_path / "image_labels_train.csv", "image_id,rad_id,COPD,Gout", "a,R1,1,1")
    (example,), problems = read("vindr-cxr", tmp_path)
    assert example.judged == {"COPD"}
    assert [kind for kind, *_ in problems] == ["unknown-column", *["missing-column"] * 27]


def test_rows_of_labels_that_repeat_or_contradict(tmp_path: Path) -> None:
    labels = [row("a", "R1", "COPD"), row("a", "R1", "COPD"), row("a", "R1", "Pneumonia")]
    example, problems = read_train(tmp_path, [], labels)
    assert example.labels == {"R1": {"COPD"}}
    assert problems == [
        ("duplicate-row", "image_labels_train.csv", 3, ""),
        ("contradictory-row", "image_labels_train.csv", 4, ""),
    ]


def test_an_image_without_labels_is_no_example(tmp_path: Path) -> None:
    write_train(tmp_path, ["a,R1,ILD,1,2,3,4"], [])
    assert read("vindr-cxr", tmp_path) == ([], [("no-labels", "annotations_train.csv", 2, "image_id")])


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "there is neither annotations_train.csv nor annotations_test.csv"),
        ({"annotations_train.csv": MARKS}, r"there is no image_labels_train\.csv"),
        ({"image_labels_test.csv": "image_id"}, r"there is no annotations_test\.csv"),
        (
            {
                "annotations_test.csv": MARKS,
                "image_labels_test.csv": f"{','.join(['image_id', *TEST])},Other diseases",
            },
            "there are columns Other disease and Other diseases",
        ),
    ],
)
def test_what_is_missing_is_one_line(tmp_path: Path, files: dict[str, str], said: str) -> None:
    for name, line in files.items():
        write(tmp_path / name, line)
    with pytest.raises(DatasetError, match=said):
        read("vindr-cxr", tmp_path)


def test_the_columns_are_the_vocabulary_s() -> None:
    assert (*TEST,) == LABELS == (*LOCAL_LABELS, *DIAGNOSES)
