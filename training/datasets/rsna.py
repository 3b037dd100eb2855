"""RSNA Pneumonia Detection Challenge (Kaggle, 2018; Shih et al. 2019): 26,684 images with labels.

- ``stage_2_train_labels.csv``: ``patientId,x,y,width,height,Target``, a row a box, or one row with Target 0.
- ``stage_2_detailed_class_info.csv``: ``patientId,class``, with as many rows an image as the other file has.
- ``stage_2_train_images/{patientId}.dcm``, 1024 × 1024 each.
- ``pneumonia-challenge-dataset-mappings_2018.json``, from the RSNA: for each image (``subset_img_id``) its
  name in ChestX-ray14 (``img_id``). A ``patientId`` is one image's; only this file tells the patients, so
  that a split by patient holds, also across the two datasets.

Read in: the challenge's data page, and public code that reads these files.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from litegpt.vocabulary import NO_FINDING
from training.datasets.csv_table import CsvTable
from training.datasets.example import PUBLISHED, Example, Size
from training.datasets.image_folder import ImageFolder
from training.datasets.image_record import ImageRecord
from training.datasets.label_tables import RSNA
from training.datasets.nih import patient_of
from training.datasets.problems import Kind, Place, Tally
from training.datasets.source import Source
from training.datasets.written_box import BoxColumns, is_empty
from training.errors import DatasetError

NAME: Final = "rsna"

OPACITY: Final = "Lung Opacity"
_CORNERS: Final = ("x", "y", "width", "height")
LABELS_LAYOUT: Final = ("patientId", *_CORNERS, "Target")
CLASSES_LAYOUT: Final = ("patientId", "class")

SIZE: Final = Size(1024, 1024)

_BOXES: Final = BoxColumns(_CORNERS, extent=True)


def read(path: Path, tally: Tally) -> Iterator[Example]:
    """Reads both files; without the classes nothing is known of images without opacity but that.

    Raises:
        DatasetError: If there are no labels, or a file is not that file.
    """
    source = Source(path)
    targets = _read_targets(CsvTable(source.get("stage_2_train_labels.csv"), LABELS_LAYOUT, tally), tally)
    classes_file = source.find("stage_2_detailed_class_info.csv")
    if classes_file:
        _add_classes(CsvTable(classes_file, CLASSES_LAYOUT, tally), targets, tally)
    patients = _patients(source)
    images = ImageFolder([source.folder / "stage_2_train_images"], {".dcm"})
    for image_id, target in targets.items():
        image = images.find(image_id, target.record.place, "patientId", tally)
        labels = target.record.consistent_labels("class", tally)
        if images and image is None:
            continue
        yield Example(
            dataset=NAME,
            image_id=image_id,
            image=image,
            patient=patients.get(image_id, image_id),
            split=None,
            findings=tuple(target.record.findings),
            labels=labels,
            judged=target.judged,
            place=target.record.place,
            size=SIZE,
        )
    images.report_unasked(tally)


@dataclass(slots=True)
class _Target:
    """One image: what its rows say, and what was judged of it."""

    record: ImageRecord
    value: str
    judged: frozenset[str] = frozenset({OPACITY})
    class_name: str = ""


def _read_targets(table: CsvTable, tally: Tally) -> dict[str, _Target]:
    targets: dict[str, _Target] = {}
    for place, (image_id, *cells, written) in table.rows(LABELS_LAYOUT):
        if not image_id:
            tally.report(Kind.NO_IMAGE_ID, place, "patientId", "empty")
            continue
        value, first = written.removesuffix(".0"), image_id not in targets
        target = targets.setdefault(image_id, _Target(ImageRecord(place), value))
        target.record.read_by(PUBLISHED)
        if value != target.value:
            tally.report(Kind.CONTRADICTORY_ROW, place, "Target", f"{value} after {target.value}")
        elif value == "1":
            target.record.add_row(PUBLISHED, OPACITY, cells, _BOXES, SIZE, place, tally)
        elif not all(map(is_empty, cells)):
            tally.report(Kind.LABEL_CONTRADICTS_BOX, place, "Target", f"{value}, but there is a box")
            target.record.add_row(PUBLISHED, OPACITY, cells, _BOXES, SIZE, place, tally)
        elif not first:
            tally.report(Kind.DUPLICATE_ROW, place, "", f"another row of {image_id}")
        elif value != "0":
            target.judged = frozenset()
            kind = Kind.LABEL_MISSING if is_empty(value) else Kind.LABEL_VALUE
            tally.report(kind, place, "Target", f"{value!r} is neither 0 nor 1")
    return targets


def _add_classes(table: CsvTable, targets: dict[str, _Target], tally: Tally) -> None:
    """Adds "No finding" where the class says so; the rows of one image say the same again and again."""
    for place, (image_id, name) in table.rows(CLASSES_LAYOUT):
        target = targets.get(image_id)
        if target is None:
            tally.report(Kind.NO_LABELS, place, "patientId", f"{image_id} is not among the labels")
        elif target.class_name and target.class_name != name:
            tally.report(Kind.CONTRADICTORY_ROW, place, "class", f"{name} after {target.class_name}")
        elif not target.class_name:
            target.class_name = name
            _add_class(target, name, place, tally)


def _add_class(target: _Target, name: str, place: Place, tally: Tally) -> None:
    label = RSNA.ours(name, place, "class", tally)
    if not RSNA.is_known(name):
        return
    target.judged |= {NO_FINDING}
    said = target.record.read_by(PUBLISHED)
    if (label == OPACITY) != (OPACITY in said):
        words = f"{name}, but Target is {target.value}"
        tally.report(Kind.LABEL_CONTRADICTS_BOX, place, "class", words)
    if label:
        said.add(label)


def _patients(source: Source) -> dict[str, str]:
    """Patients by image, from the RSNA's mapping to ChestX-ray14; empty where it is not there."""
    file = source.find("*dataset-mappings_2018.json")
    if file is None:
        return {}
    try:
        entries: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))
        return {str(entry["subset_img_id"]): patient_of(str(entry["img_id"])) for entry in entries}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DatasetError(f"is not the RSNA's mapping: {error!r}", file) from None
