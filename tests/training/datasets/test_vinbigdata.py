"""VinBigData's ``train.csv``: in the real file's shape, and with all that can be wrong with its rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from litegpt.boxes import Box
from tests.training.datasets.reading import read, touch, write
from training.datasets.example import MarkedFinding
from training.errors import DatasetError

HEADER = "image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max"
NORMAL = "50a418190bc3fb1ef1633bf9678929b3"
ABNORMAL = "9a5094b2563a1ef3ff50dc5c7ff71345"
# As in the real file, the rows of an image do not follow each other
ROWS = (
    f"{NORMAL},No finding,14,R11,,,,",
    f"{ABNORMAL},Cardiomegaly,3,R10,691.0,1375.0,1653.0,1831.0",
    f"{NORMAL},No finding,14,R15,,,,",
    f"{ABNORMAL},Aortic enlargement,0,R10,1052.0,715.0,1299.0,966.0",
    f"{ABNORMAL},No finding,14,R9,,,,",
    f"{NORMAL},No finding,14,R2,,,,",
    f"{ABNORMAL},Cardiomegaly,3,R8,700.5,1380.0,1660.0,1830.25",
)


def test_rows_become_one_example_an_image(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", HEADER, *ROWS)
    (normal, abnormal), problems = read("vinbigdata", tmp_path)
    assert (normal.image_id, normal.findings, normal.split, normal.image) == (NORMAL, (), "train", None)
    assert normal.labels == {reader: {"No finding"} for reader in ("R11", "R15", "R2")}
    assert abnormal.findings == (
        MarkedFinding("Cardiomegaly", Box(691, 1375, 1653, 1831), "R10"),
        MarkedFinding("Aortic enlargement", Box(1052, 715, 1299, 966), "R10"),
        MarkedFinding("Cardiomegaly", Box(700.5, 1380, 1660, 1830.25), "R8"),
    )
    assert abnormal.labels == {
        "R10": {"Cardiomegaly", "Aortic enlargement"},
        "R9": {"No finding"},
        "R8": {"Cardiomegaly"},
    }
    assert problems == [("readers-disagree", "train.csv", 3, "class_name")]


def test_labels_that_were_not_asked_for_are_not_judged(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", HEADER, *ROWS)
    (example, _), _ = read("vinbigdata", tmp_path)
    assert len(example.judged) == 15
    assert "Rib fracture" not in example.judged
    assert "COPD" not in example.judged


def test_images_are_found_where_they_are_and_missed_where_they_are_not(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", HEADER, *ROWS)
    image = touch(tmp_path / "train" / f"{NORMAL}.dicom")
    # Made smaller by somebody: the boxes would not fit
    touch(tmp_path / "train" / f"{ABNORMAL}.png")
    stranger = touch(tmp_path / "train" / "ffff.dicom")
    (example,), problems = read("vinbigdata", tmp_path)
    assert example.image == image
    assert problems == [
        ("missing-image", "train.csv", 3, "image_id"),
        ("image-without-rows", stranger.name, None, ""),
        ("readers-disagree", "train.csv", 3, "class_name"),
    ]


@pytest.mark.parametrize(
    ("row", "kind", "column", "labels", "boxes"),
    [
        ("a,Cardiomegaly,3,R1,1,2,3,4", None, "", {"Cardiomegaly"}, 1),
        ("a,Cardiomegaly,3,R1,3,2,1,4", "box-reversed", "x_max", {"Cardiomegaly"}, 1),
        ("a,Cardiomegaly,3,R1,-1,2,3,4", "box-outside", "x_min", {"Cardiomegaly"}, 1),
        ("a,Cardiomegaly,3,R1,-4,2,-3,4", "box-off-image", "x_min", {"Cardiomegaly"}, 0),
        ("a,Cardiomegaly,3,R1,1,2,1,4", "box-empty", "x_max", {"Cardiomegaly"}, 0),
        ("a,Cardiomegaly,3,R1,1,x,3,4", "box-number", "y_min", {"Cardiomegaly"}, 0),
        ("a,Cardiomegaly,3,R1,1,2,3,", "box-incomplete", "y_max", {"Cardiomegaly"}, 0),
        ("a,Cardiomegaly,3,R1,,,,", "box-missing", "x_min", {"Cardiomegaly"}, 0),
        ("a,Cardiomegaly,3,R1,NaN,NaN,NaN,NaN", "box-missing", "x_min", {"Cardiomegaly"}, 0),
        ("a,No finding,14,R1,1,2,3,4", "diagnosis-with-box", "x_min", {"No finding"}, 0),
        ("a,cardiomegaly ,3,R1,1,2,3,4", "class-spelling", "class_name", {"Cardiomegaly"}, 1),
        ("a,Cardiomegaly,4,R1,1,2,3,4", "class-number", "class_id", {"Cardiomegaly"}, 1),
        ("a,Rib fracture,3,R1,1,2,3,4", "unknown-class", "class_name", set(), 0),
    ],
)
def test_a_row_that_is_not_as_it_should_be(
    tmp_path: Path, row: str, kind: str | None, column: str, labels: set[str], boxes: int
) -> None:
    write(tmp_path / "train.csv", HEADER, row)
    (example,), problems = read("vinbigdata", tmp_path)
    assert problems == ([(kind, "train.csv", 2, column)] if kind else [])
    assert example.labels == {"R1": labels}
    assert len(example.findings) == boxes


def test_rows_that_say_the_same_count_once(tmp_path: Path) -> None:
    rows = (
        "a,Cardiomegaly,3,R1,1,2,3,4",
        "a,Cardiomegaly,3,R1,1.0,2.0,3.0,4.0",
        "a,Cardiomegaly,3,R2,1,2,3,4",
    )
    write(tmp_path / "train.csv", HEADER, *rows, "b,No finding,14,R1,,,,", "b,No finding,14,R1,,,,")
    examples, problems = read("vinbigdata", tmp_path)
    assert [len(example.findings) for example in examples] == [2, 0]
    assert problems == [("duplicate-row", "train.csv", 3, ""), ("duplicate-row", "train.csv", 6, "")]


def test_a_reader_who_contradicts_himself_found_something(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", HEADER, "a,No finding,14,R1,,,,", "a,ILD,5,R1,1,2,3,4")
    (example,), problems = read("vinbigdata", tmp_path)
    assert example.labels == {"R1": {"ILD"}}
    assert problems == [("reader-contradicts", "train.csv", 2, "class_name")]


def test_a_row_without_an_image_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", HEADER, ",ILD,5,R1,1,2,3,4")
    assert read("vinbigdata", tmp_path) == ([], [("no-image-id", "train.csv", 2, "image_id")])


def test_another_order_of_columns_changes_nothing(tmp_path: Path) -> None:
    write(tmp_path / "a" / "train.csv", HEADER, *ROWS)
    turned = [",".join(reversed(line.split(","))) for line in (HEADER, *ROWS)]
    write(tmp_path / "b" / "train.csv", *turned, newline="\r\n", encoding="utf-8-sig")
    expected, _ = read("vinbigdata", tmp_path / "a")
    found, problems = read("vinbigdata", tmp_path / "b")
    assert found == expected
    assert {kind for kind, *_ in problems} == {"byte-order-mark", "crlf", "column-order", "readers-disagree"}


def test_another_file_is_refused_in_one_line(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", "image_id,label", "a,1")
    with pytest.raises(
        DatasetError, match=r"train\.csv:1: there is no column class_name \(the first line reads"
    ):
        read("vinbigdata", tmp_path)
    with pytest.raises(DatasetError, match=r"nowhere: cannot be read: No such file"):
        read("vinbigdata", tmp_path / "nowhere")
