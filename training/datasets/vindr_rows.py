"""Rows of boxes as VinDr-CXR writes them, on PhysioNet and on Kaggle: one row a reader and box.

A reader who found nothing has one row of the class ``No finding`` without a box. The rows of an image need
not follow each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from training.datasets.csv_table import CsvTable
from training.datasets.example import PUBLISHED
from training.datasets.image_record import ImageRecord
from training.datasets.label_tables import LabelTable
from training.datasets.problems import Kind, Tally
from training.datasets.written_box import CORNERS, BoxColumns

IMAGE_SUFFIXES: Final = frozenset({".dicom", ".dcm"})
"""PNG and JPEG copies are made smaller more often than not, and the boxes are in pixels of the original."""

_BOXES: Final = BoxColumns()


def read_marked_rows(
    table: CsvTable,
    labels: LabelTable,
    tally: Tally,
    *,
    class_numbers: Mapping[str, str] | None = None,
    tells_readers: bool = True,
) -> dict[str, ImageRecord]:
    """Gathers the rows of each image.

    Args:
        table: With columns ``image_id``, ``class_name`` and the corners; ``rad_id``, ``class_id`` where it
            has them.
        labels: The dataset's classes.
        tally: Takes problems.
        class_numbers: The ``class_id`` of each class.
        tells_readers: Whether ``rad_id`` counts; where not, all rows are of one published annotation.

    Returns:
        Records by image id, in the order of the images' first rows.
    """
    numbers = class_numbers or {}
    records: dict[str, ImageRecord] = {}
    columns = ("image_id", "class_name", *CORNERS)
    for place, (image_id, name, *corners, reader, number) in table.rows(columns, ("rad_id", "class_id")):
        if not image_id:
            tally.report(Kind.NO_IMAGE_ID, place, "image_id", "empty")
            continue
        record = records.get(image_id)
        if record is None:
            record = records[image_id] = ImageRecord(place)
        if number and numbers.get(name, number) != number:
            tally.report(
                Kind.CLASS_NUMBER, place, "class_id", f"{number} for {name}, which is {numbers[name]}"
            )
        reader = reader if reader and tells_readers else PUBLISHED
        label = labels.ours(name, place, "class_name", tally)
        record.add_row(reader, label, corners, _BOXES, None, place, tally)
    return records
