"""Images opened for their size: real files, one of each form, and files that are none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from litegpt.boxes import Box
from litegpt.errors import RadiographError
from tests.images import make_radiograph
from tests.training.datasets.reading import noted, read, touch, write
from training.datasets.example import Example, Size
from training.datasets.opened import image_size, opened
from training.datasets.problems import Tally


@pytest.fixture
def example(tmp_path: Path) -> Example:
    """An example with two boxes, its image a DICOM file of 48 columns and 64 rows."""
    folder = tmp_path / "train"
    folder.mkdir()
    make_radiograph(rows=64, columns=48).save_as(folder / "a.dicom", enforce_file_format=True)
    header = "image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max"
    rows = ("a,ILD,5,R1,10,10,60,60", "a,Edema,,R1,1,2,3,4", "a,Atelectasis,1,R1,48,0,60,60")
    write(tmp_path / "train.csv", header, *rows)
    (found,), _ = read("vinbigdata", tmp_path)
    return found


def test_boxes_are_cut_to_the_image(example: Example) -> None:
    tally = Tally(shown=0)
    (found,) = opened([example], tally)
    assert found.size == Size(48, 64)
    assert [finding.box for finding in found.findings] == [Box(10, 10, 48, 60)]
    assert found.labels == example.labels
    assert noted(tally) == [("box-off-image", "train.csv", 2, ""), ("box-outside", "train.csv", 2, "")]


def test_an_image_of_another_size_than_the_boxes_is_refused(example: Example) -> None:
    tally = Tally(shown=0)
    assert list(opened([replace(example, size=Size(64, 48))], tally)) == []
    assert noted(tally) == [("image-size", "a.dicom", None, "")]
    assert len(list(opened([replace(example, size=Size(48, 64))], Tally()))) == 1


def test_a_file_that_is_no_image_is_refused(example: Example, tmp_path: Path) -> None:
    tally = Tally(shown=0)
    assert list(opened([replace(example, image=touch(tmp_path / "b.dcm"))], tally)) == []
    assert noted(tally) == [("unreadable-image", "b.dcm", None, "")]


def test_without_images_there_is_nothing_to_open(example: Example) -> None:
    without = replace(example, image=None)
    assert list(opened([without], Tally())) == [without]


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.JPEG"])
def test_pictures_tell_their_size(tmp_path: Path, name: str) -> None:
    Image.new("L", (30, 20)).save(tmp_path / name)
    assert image_size(tmp_path / name) == Size(columns=30, rows=20)


@pytest.mark.parametrize("name", ["a.png", "a.dcm", "missing.dcm"])
def test_what_is_no_image_says_so_in_one_line(tmp_path: Path, name: str) -> None:
    write(tmp_path / "a.png", "text")
    write(tmp_path / "a.dcm", "text")
    with pytest.raises(RadiographError, match=r"^(neither DICOM, PNG nor JPEG|cannot be read: .*)$"):
        image_size(tmp_path / name)
