"""Phantoms in the shape of VinDr-CXR: its folders and four CSV files, three readers in the train split.

The folder can be read as ``vindr-cxr`` (training/datasets/vindr_cxr.py, where the files are described) and as
``phantom``, by the ``truth.json`` beside the CSV files. The test split's consensus is what was drawn.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from litegpt.boxes import Box
from litegpt.vocabulary import DIAGNOSES, LOCAL_LABELS, NO_FINDING
from training.complete_file import complete_file
from training.phantom.choice import DRAWN_LABELS
from training.phantom.collection import Item, refuse_another_set, truth_of, write_truth
from training.phantom.dicom import in_form, write_phantom
from training.phantom.reader_agreement import ReaderAgreement
from training.phantom.readers import read_by_all

Split = Literal["train", "test"]

_OTHER: Final = "Other disease"
_DIAGNOSIS_COLUMNS: Final[dict[Split, tuple[str, ...]]] = {
    "train": tuple("Other diseases" if label == _OTHER else label for label in DIAGNOSES),
    "test": DIAGNOSES,
}
"""VinDr-CXR spells one of them differently in its two files."""

_CORNERS: Final = ("x_min", "y_min", "x_max", "y_max")
_READERS_SEED: Final = 3
_SPLIT_SEED: Final = 4


def splits(images: int, test_share: float, seed: int) -> list[Split]:
    """The split of each image: as near to the share as can be, the images chosen at random."""
    chosen = np.random.default_rng((seed, _SPLIT_SEED)).permutation(images)[: round(images * test_share)]
    in_test = set(chosen.tolist())
    return ["test" if number in in_test else "train" for number in range(images)]


class VindrFolder:
    """A folder of phantoms while it is being written.

    Args:
        folder: Empty; made where it is missing.
        seed: Of the readers.
        known_labels: The labels that readers use.
    """

    def __init__(self, folder: Path, seed: int, *, known_labels: Sequence[str] = DRAWN_LABELS) -> None:
        self.folder = folder
        self.agreement = ReaderAgreement()
        self._seed = seed
        self._known_labels = known_labels
        self._truth: list[dict[str, Any]] = []
        self._marks: dict[Split, list[Sequence[str]]] = {}
        self._labels: dict[Split, list[Sequence[str]]] = {}

    def write(self, items: Iterable[tuple[Item, Split]]) -> Iterator[Path]:
        """Writes each image and, after the last, the tables of all of them; yields each image's path.

        Raises:
            TrainingError: For a folder that holds something already.
        """
        refuse_another_set(self.folder)
        for number, (item, split) in enumerate(items):
            path = self.folder / split / f"{Path(item.file_name).stem}.dicom"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_phantom(item.phantom, item.form, item.label, path)
            self._truth.append({**truth_of(item), "file": f"{split}/{path.name}"})
            if split == "train":
                self._add_readings(path.stem, item, number)
            else:
                found = [(finding.label, finding.box) for finding in item.phantom.findings]
                self._add(path.stem, split, (), found, item.phantom.diagnoses, item)
            yield path
        self._write_tables()

    def _add_readings(self, image_id: str, item: Item, number: int) -> None:
        rng = np.random.default_rng((self._seed, _READERS_SEED, number))
        readings = read_by_all(item.phantom, rng, known_labels=self._known_labels)
        self.agreement.add(item.phantom, readings)
        for reading in readings:
            found = [(finding.label, finding.box) for finding in reading.findings]
            self._add(image_id, "train", (reading.reader,), found, reading.diagnoses, item)

    def _add(
        self,
        image_id: str,
        split: Split,
        reader: tuple[str, ...],
        found: Sequence[tuple[str, Box]],
        diagnoses: Sequence[str],
        item: Item,
    ) -> None:
        """Adds a row a box, and one row of labels; ``reader`` is empty where there is no such column."""
        marks = self._marks.setdefault(split, [])
        for label, box in found:
            stored = in_form(box, item.phantom, item.form)
            corners = (stored.x_min, stored.y_min, stored.x_max, stored.y_max)
            marks.append((image_id, *reader, label, *(f"{corner:.2f}" for corner in corners)))
        if NO_FINDING in diagnoses:
            marks.append((image_id, *reader, NO_FINDING, "", "", "", ""))
        said = {*diagnoses, *(label for label, _ in found)}
        cells = (str(int(label in said)) for label in (*LOCAL_LABELS, *DIAGNOSES))
        self._labels.setdefault(split, []).append((image_id, *reader, *cells))

    def _write_tables(self) -> None:
        for split, labels in self._labels.items():
            readers = ("rad_id",) if split == "train" else ()
            marked = ("image_id", *readers, "class_name", *_CORNERS)
            labelled = ("image_id", *readers, *LOCAL_LABELS, *_DIAGNOSIS_COLUMNS[split])
            _write_csv(self.folder / f"annotations_{split}.csv", marked, self._marks[split])
            _write_csv(self.folder / f"image_labels_{split}.csv", labelled, labels)
        write_truth(self._truth, self.folder)


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    with complete_file(path) as unfinished, unfinished.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
