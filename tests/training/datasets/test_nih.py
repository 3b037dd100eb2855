"""ChestX-ray14: the collection's real list of boxes, and entries in the real file's odd shape."""

from __future__ import annotations

import gzip
from collections import Counter
from pathlib import Path

import pytest

from litegpt.boxes import Box
from tests.presence import RADIOGRAPHS
from tests.training.datasets.reading import read, touch, write
from training.datasets.example import MarkedFinding
from training.errors import DatasetError

BOXES = "Image Index,Finding Label,Bbox [x,y,w,h],,,"
ENTRIES = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],"
)


def entry(image: str, labels: str) -> str:
    """A row of Data_Entry_2017.csv."""
    return f"{image},{labels},0,{int(image[:8])},58,M,PA,2682,2749,0.143,0.143,"


@pytest.fixture
def real_boxes() -> Path:
    file = RADIOGRAPHS / "nih_bbox_list_2017.csv.gz"
    if not file.exists():
        pytest.skip("no ../shared/radiographs beside the project: the NIH's list of boxes is not part of it")
    return file


def test_every_box_of_the_real_list_is_where_the_list_says(real_boxes: Path) -> None:
    lines = gzip.decompress(real_boxes.read_bytes()).decode().split("\n")[1:]
    cells = [line.rstrip("\r").split(",")[:6] for line in lines if line]
    assert len(cells) == 984
    examples, problems = read("nih", real_boxes.parent)
    assert len(examples) == len({image for image, *_ in cells})
    found = {
        (example.image_id, finding.label, finding.box) for example in examples for finding in example.findings
    }
    ours = {
        "Effusion": "Pleural effusion",
        "Infiltrate": "Infiltration",
        "Mass": "Nodule/Mass",
        "Nodule": "Nodule/Mass",
    }
    expected = set()
    for image, name, *numbers in cells:
        left, top, width, height = map(float, numbers)
        if name != "Pneumonia":
            expected.add((image, ours.get(name, name), Box(left, top, left + width, top + height)))
    assert found == expected
    # 120 boxes are of a diagnosis: the image keeps it, without a place
    assert Counter(kind for kind, *_ in problems) == {"diagnosis-with-box": 120}
    assert sum("Pneumonia" in example.said for example in examples) == 120


def test_the_file_itself_can_be_named(real_boxes: Path) -> None:
    assert read("nih", real_boxes) == read("nih", real_boxes.parent)


def test_entries_and_boxes_are_joined(tmp_path: Path) -> None:
    write(
        tmp_path / "Data_Entry_2017.csv",
        ENTRIES,
        entry("00000001_000.png", "Infiltration|Mass|Hernia"),
        entry("00000001_001.png", "No Finding"),
        entry("00000002_000.png", "Pleural_Thickening|Pneumonia"),
    )
    write(tmp_path / "BBox_List_2017.csv", BOXES, "00000001_000.png,Infiltrate,10,20,30,40,,,")
    write(tmp_path / "train_val_list.txt", "00000001_000.png", "00000001_001.png")
    write(tmp_path / "test_list.txt", "00000002_000.png", newline="\r\n")
    (first, normal, third), problems = read("nih", tmp_path)
    assert first.findings == (MarkedFinding("Infiltration", Box(10, 20, 40, 60), "published"),)
    assert first.said == {"Infiltration", "Nodule/Mass"}
    assert normal.said == {"No finding"}
    assert third.said == {"Pleural thickening", "Pneumonia"}
    assert [example.patient for example in (first, normal, third)] == ["00000001", "00000001", "00000002"]
    assert [example.split for example in (first, normal, third)] == ["train", "train", "test"]
    assert problems == [("unmapped-class", "Data_Entry_2017.csv", 2, "Finding Labels")]


def test_what_the_text_mining_looked_for_is_judged(tmp_path: Path) -> None:
    write(tmp_path / "Data_Entry_2017_v2020.csv", ENTRIES, entry("00000001_000.png", "Hernia"))
    (example,), _ = read("nih", tmp_path)
    assert example.said == frozenset()
    assert {"No finding", "Emphysema", "Nodule/Mass"} <= example.judged
    assert {"Rib fracture", "COPD", "Lung Opacity"}.isdisjoint(example.judged)


def test_boxes_alone_judge_what_they_show(tmp_path: Path) -> None:
    write(tmp_path / "BBox_List_2017.csv", BOXES, "00000001_000.png,Mass,10,20,30,40,,,")
    (example,), _ = read("nih", tmp_path)
    assert example.judged == {"Nodule/Mass"}
    assert example.split is None


def test_images_are_found_as_they_are_unpacked(tmp_path: Path) -> None:
    images = ["00000001_000.png", "00000002_000.png", "00000003_000.png"]
    write(tmp_path / "Data_Entry_2017.csv", ENTRIES, *(entry(image, "No Finding") for image in images))
    found = [
        touch(tmp_path / "images_001" / "images" / images[0]),
        touch(tmp_path / "images_002" / "images" / images[1]),
    ]
    touch(tmp_path / "images_002" / "images" / "00000009_000.png")
    examples, problems = read("nih", tmp_path)
    assert [example.image for example in examples] == found
    assert problems == [
        ("missing-image", "Data_Entry_2017.csv", 4, "Image Index"),
        ("image-without-rows", "00000009_000.png", None, ""),
    ]


def test_the_files_against_each_other_and_against_themselves(tmp_path: Path) -> None:
    write(
        tmp_path / "Data_Entry_2017.csv",
        ENTRIES,
        entry("00000001_000.png", "No Finding"),
        entry("00000002_000.png", "Edema"),
        entry("00000002_000.png", "Edema"),
        entry("00000002_000.png", "Mass"),
        entry("00000003_000.png", ""),
        entry("00000004_000.png", "Edema|Gout"),
    )
    write(
        tmp_path / "BBox_List_2017.csv",
        BOXES,
        "00000001_000.png,Mass,1000,20,30,40",
        "00000009_000.png,Mass,1,2,3,4",
    )
    write(tmp_path / "train_val_list.txt", "00000001_000.png", "00000002_000.png", "00000003_000.png")
    write(tmp_path / "test_list.txt", "00000002_000.png", "00000003_001.png")
    examples, problems = read("nih", tmp_path)
    assert [sorted(example.said) for example in examples] == [["Nodule/Mass"], ["Edema"], [], ["Edema"]]
    assert examples[0].findings[0].box == Box(1000, 20, 1024, 60)
    assert [example.split for example in examples] == ["train", "test", "train", None]
    assert examples[2].judged == frozenset()
    assert problems == [
        ("duplicate-row", "Data_Entry_2017.csv", 4, ""),
        ("contradictory-row", "Data_Entry_2017.csv", 5, ""),
        ("unknown-class", "Data_Entry_2017.csv", 7, "Finding Labels"),
        ("label-missing", "Data_Entry_2017.csv", 6, "Finding Labels"),
        ("box-outside", "BBox_List_2017.csv", 2, "Bbox [x"),
        ("no-labels", "BBox_List_2017.csv", 3, "Image Index"),
        ("two-splits", "train_val_list.txt", 2, ""),
        ("reader-contradicts", "Data_Entry_2017.csv", 2, "Finding Labels"),
        ("label-contradicts-box", "Data_Entry_2017.csv", 2, "Finding Labels"),
    ]


def test_a_patient_in_both_lists_stays_where_he_comes_first(tmp_path: Path) -> None:
    images = ("00000001_000.png", "00000001_001.png")
    write(tmp_path / "Data_Entry_2017.csv", ENTRIES, *(entry(image, "No Finding") for image in images))
    write(tmp_path / "train_val_list.txt", images[1])
    write(tmp_path / "test_list.txt", images[0])
    (example,), problems = read("nih", tmp_path)
    assert example.split == "test"
    assert problems == [("two-splits", "Data_Entry_2017.csv", 3, "split")]


def test_neither_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"there is neither Data_Entry_2017\.csv nor BBox_List_2017\.csv"):
        read("nih", tmp_path)


def test_two_files_that_could_be_meant_are_told_apart_by_a_person(tmp_path: Path) -> None:
    for name in ("Data_Entry_2017.csv", "Data_Entry_2017_v2020.csv"):
        write(tmp_path / name, ENTRIES, entry("00000001_000.png", "No Finding"))
    with pytest.raises(DatasetError, match="several files could be"):
        read("nih", tmp_path)
    (example,), _ = read("nih", tmp_path / "Data_Entry_2017_v2020.csv")
    assert example.said == {"No finding"}
