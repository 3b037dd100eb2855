"""VinDr-CXR 1.0.0 (PhysioNet, doi 10.13026/3akn-b287): 18,000 images, 22 findings, 6 diagnoses.

Four files, in ``annotations`` or beside each other:

- ``annotations_train.csv``, ``annotations_test.csv``: ``image_id,rad_id,class_name,x_min,y_min,x_max,y_max``,
  a row a reader and box (``vindr_rows``). The test file may lack ``rad_id``.
- ``image_labels_train.csv``, ``image_labels_test.csv``: ``image_id``, ``rad_id`` (train only), 22 + 6 columns
  of 0 and 1: 15,000 × 3 rows of three readers each, 3,000 rows of consensus.

The last but one diagnosis is ``Other diseases`` in the train file and ``Other disease`` in the test file.
Images: ``train/{image_id}.dicom`` and ``test/{image_id}.dicom``. Read in: public readers of these files
(philip-mueller/chex, src/dataset/vindr_cxr.py; leduckhai/LiteGPT, preprocess_label.py).
Patients are not told.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final, Literal

from litegpt.vocabulary import DIAGNOSES, LABELS, LOCAL_LABELS, NO_FINDING
from training.datasets.csv_table import Cells, CsvTable
from training.datasets.example import PUBLISHED, Example
from training.datasets.image_folder import ImageFolder
from training.datasets.image_record import ImageRecord
from training.datasets.label_tables import OURS
from training.datasets.problems import Kind, Place, Tally
from training.datasets.source import Source
from training.datasets.vindr_rows import IMAGE_SUFFIXES, read_marked_rows
from training.datasets.written_box import CORNERS, is_empty
from training.errors import DatasetError

NAME: Final = "vindr-cxr"

MARKS_LAYOUT: Final = ("image_id", "rad_id", "class_name", *CORNERS)

LABEL_COLUMNS: Final = (*LOCAL_LABELS, *DIAGNOSES[:-1], "Other diseases", NO_FINDING)
"""Every label column that a file may have; of ``Other disease`` and ``Other diseases`` it has one."""

LABELS_LAYOUT: Final = ("image_id", "rad_id", *LABEL_COLUMNS)

_SPLITS: Final[tuple[Literal["test", "train"], ...]] = ("test", "train")
"""The test split first, so that an image in both would stay in it."""


def read(path: Path, tally: Tally) -> Iterator[Example]:
    """Reads whichever of the two splits is there, with its images where they are.

    Raises:
        DatasetError: If there is neither, or one of a split's two files is missing or not that file.
    """
    folder = path.parent if path.name == "annotations" else path
    source = Source(folder / "annotations" if (folder / "annotations").is_dir() else folder)
    splits = [split for split in _SPLITS if any(source.find(name) for name in _files(split))]
    if not splits:
        raise DatasetError("there is neither annotations_train.csv nor annotations_test.csv", source.path)
    for split in splits:
        marks, labels = (source.get(name) for name in _files(split))
        images = ImageFolder([folder / split], IMAGE_SUFFIXES)
        tables = CsvTable(marks, MARKS_LAYOUT, tally), CsvTable(labels, LABELS_LAYOUT, tally)
        yield from _examples(split, images, *tables, tally)


def _files(split: Literal["test", "train"]) -> tuple[str, str]:
    return f"annotations_{split}.csv", f"image_labels_{split}.csv"


def _examples(
    split: Literal["test", "train"], images: ImageFolder, marks: CsvTable, labels: CsvTable, tally: Tally
) -> Iterator[Example]:
    judged_in_file = _judged(labels, tally)
    records = read_marked_rows(marks, OURS, tally, tells_readers=labels.has("rad_id"))
    for image_id, given in _read_labels(labels, tally).items():
        record = records.pop(image_id, None) or ImageRecord(given.place)
        image = images.find(image_id, given.place, "image_id", tally)
        _join(record, given, tally)
        said = record.consistent_labels("", tally)
        if images and image is None:
            continue
        yield Example(
            dataset=NAME,
            image_id=image_id,
            image=image,
            patient=image_id,
            split=split,
            findings=tuple(record.findings),
            labels=said,
            judged=judged_in_file - given.unknown,
            place=given.place,
        )
    for image_id, record in records.items():
        tally.report(Kind.NO_LABELS, record.place, "image_id", f"{image_id} is not in {labels.path.name}")
    images.report_unasked(tally)


def _judged(table: CsvTable, tally: Tally) -> frozenset[str]:
    """The labels that the file has a column for."""
    if table.has("Other disease") and table.has("Other diseases"):
        raise DatasetError("there are columns Other disease and Other diseases", table.path, 1)
    judged = OURS.judged & {OURS.entries[name] for name in LABEL_COLUMNS if table.has(name)}
    for label in LABELS:
        if label not in judged:
            tally.report(Kind.MISSING_COLUMN, Place(table.path, 1), label, "no such column")
    return judged


@dataclass(slots=True)
class _GivenLabels:
    """What the label file says of one image: the labels that are 1, by reader, and those that are unknown."""

    place: Place
    by_reader: dict[str, tuple[Place, frozenset[str]]] = field(default_factory=dict)
    unknown: frozenset[str] = frozenset()


def _read_labels(table: CsvTable, tally: Tally) -> dict[str, _GivenLabels]:
    names = [name for name in LABEL_COLUMNS if table.has(name)]
    readers = ["rad_id"] if table.has("rad_id") else []

    @cache  # most of the 45,000 rows say the same as another
    def understood(cells: Cells) -> _Row:
        return _Row.of(names, cells)

    images: dict[str, _GivenLabels] = {}
    for place, (image_id, *rest) in table.rows(["image_id", *readers, *names]):
        if not image_id:
            tally.report(Kind.NO_IMAGE_ID, place, "image_id", "empty")
            continue
        given = images.setdefault(image_id, _GivenLabels(place))
        reader = rest[0] if readers and rest[0] else PUBLISHED
        row = understood(tuple(rest[len(readers) :]))
        for kind, column, words in row.problems:
            tally.report(kind, place, column, words)
        if reader in given.by_reader:
            same = given.by_reader[reader][1] == row.labels
            kind = Kind.DUPLICATE_ROW if same else Kind.CONTRADICTORY_ROW
            tally.report(kind, place, "", f"another row of {reader} and {image_id}")
            continue
        given.by_reader[reader] = (place, row.labels)
        given.unknown |= row.unknown
    return images


@dataclass(frozen=True, slots=True)
class _Row:
    """The 28 cells of a row, understood."""

    labels: frozenset[str]
    unknown: frozenset[str]
    problems: Sequence[tuple[Kind, str, str]]

    @classmethod
    def of(cls, names: Sequence[str], cells: Sequence[str]) -> _Row:
        labels, unknown, problems = set(), set(), []
        for name, cell in zip(names, cells, strict=True):
            label = str(OURS.entries[name])
            if cell in ("1", "1.0"):
                labels.add(label)
            elif cell not in ("0", "0.0"):
                unknown.add(label)
                kind = Kind.LABEL_MISSING if is_empty(cell) else Kind.LABEL_VALUE
                problems.append((kind, name, f"{cell!r} is neither 0 nor 1"))
        return cls(frozenset(labels), frozenset(unknown), problems)


def _join(record: ImageRecord, given: _GivenLabels, tally: Tally) -> None:
    """Adds the label file's labels to the record of the boxes, and reports where the two differ."""
    for reader, (place, labels) in given.by_reader.items():
        marked = frozenset(record.read_by(reader))
        for label in sorted(marked - labels - given.unknown):
            tally.report(Kind.LABEL_CONTRADICTS_BOX, place, label, f"not 1, but {reader} has a row of it")
        for label in sorted(labels.difference(marked, DIAGNOSES)):
            tally.report(Kind.LABEL_CONTRADICTS_BOX, place, label, f"1, but {reader} has no box of it")
        record.read_by(reader).update(labels)
    for reader in record.labels.keys() - given.by_reader.keys():
        words = f"{reader} marked the image and gave it no labels"
        tally.report(Kind.LABEL_CONTRADICTS_BOX, record.place, "rad_id", words)
