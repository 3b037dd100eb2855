"""VinBigData Chest X-ray Abnormalities Detection (Kaggle, 2020): VinDr-CXR's training images, 14 findings.

``train.csv``: ``image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max``, 67,914 rows of 15,000 images,
each read by 3 of 17 readers; ``train/{image_id}.dicom``. The labels of ``test/`` were never published. Read
in: the competition's data page and public notebooks, which agree on header and counts. Patients are not told.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from training.datasets.csv_table import CsvTable
from training.datasets.example import Example
from training.datasets.image_folder import ImageFolder
from training.datasets.label_tables import VINBIGDATA, VINBIGDATA_CLASSES
from training.datasets.problems import Tally
from training.datasets.source import Source
from training.datasets.vindr_rows import IMAGE_SUFFIXES, read_marked_rows
from training.datasets.written_box import CORNERS

NAME: Final = "vinbigdata"

LAYOUT: Final = ("image_id", "class_name", "class_id", "rad_id", *CORNERS)

_NUMBERS: Final = {name: str(number) for number, name in enumerate(VINBIGDATA_CLASSES)}


def read(path: Path, tally: Tally) -> Iterator[Example]:
    """Reads ``train.csv`` in a folder, with the images in its ``train`` where that is there.

    Raises:
        DatasetError: If there is no such file, or it is not that file.
    """
    source = Source(path)
    table = CsvTable(source.get("train.csv"), LAYOUT, tally)
    images = ImageFolder([source.folder / "train"], IMAGE_SUFFIXES)
    records = read_marked_rows(table, VINBIGDATA, tally, class_numbers=_NUMBERS)
    for image_id, record in records.items():
        image = images.find(image_id, record.place, "image_id", tally)
        labels = record.consistent_labels("class_name", tally)
        if images and image is None:
            continue
        yield Example(
            dataset=NAME,
            image_id=image_id,
            image=image,
            patient=image_id,
            split="train",
            findings=tuple(record.findings),
            labels=labels,
            judged=VINBIGDATA.judged,
            place=record.place,
        )
    images.report_unasked(tally)
