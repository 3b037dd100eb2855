"""MIMIC-CXR-JPG 2.0.0 or 2.1.0 (PhysioNet, doi 10.13026/jsn5-t979): labels of whole images, from the reports.

- ``mimic-cxr-2.0.0-chexpert.csv.gz``, a row a study: ``subject_id,study_id`` and 14 columns: 1.0 said to be
  there, 0.0 said not to be, -1.0 uncertain, empty not spoken of.
- ``mimic-cxr-2.0.0-metadata.csv.gz``, a row an image:
  ``dicom_id,subject_id,study_id,…,ViewPosition,…``.
- ``mimic-cxr-2.0.0-split.csv.gz``: ``dicom_id,study_id,subject_id,split``; by patient; train, validate or
  test.

Plain files do too. Images: ``files/p10/p10000032/s50414267/{dicom_id}.jpg`` (or ``.dcm``, in MIMIC-CXR
itself). Only PA and AP views become examples. There are no boxes. "No Finding" is the labeler's: 1 where
nothing else is said to be there or uncertain. Read in: the dataset's page, and a listing of all columns of
the three files in a public repository.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from litegpt.vocabulary import NO_FINDING
from training.datasets.csv_table import Cells, CsvTable
from training.datasets.example import PUBLISHED, Example, Split
from training.datasets.label_tables import MIMIC, LeftOut
from training.datasets.problems import Kind, Place, Tally
from training.datasets.source import Source
from training.datasets.written_box import is_empty

NAME: Final = "mimic-cxr"

LABEL_COLUMNS: Final = (
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Edema",
    "Enlarged Cardiomediastinum",
    "Fracture",
    "Lung Lesion",
    "Lung Opacity",
    "No Finding",
    "Pleural Effusion",
    "Pleural Other",
    "Pneumonia",
    "Pneumothorax",
    "Support Devices",
)
LABELS_LAYOUT: Final = ("subject_id", "study_id", *LABEL_COLUMNS)
SPLIT_LAYOUT: Final = ("dicom_id", "study_id", "subject_id", "split")
METADATA_LAYOUT: Final = (
    "dicom_id",
    "subject_id",
    "study_id",
    "PerformedProcedureStepDescription",
    "ViewPosition",
    "Rows",
    "Columns",
    "StudyDate",
    "StudyTime",
    "ProcedureCodeSequence_CodeMeaning",
    "ViewCodeSequence_CodeMeaning",
    "PatientOrientationCodeSequence_CodeMeaning",
)

_FRONTAL: Final = frozenset({"PA", "AP"})
_SPLITS: Final[dict[str, Split]] = {"train": "train", "validate": "validation", "test": "test"}


class _Study(NamedTuple):
    """What the report says: labels, and those of them that it speaks of."""

    labels: frozenset[str]
    judged: frozenset[str]


def read(path: Path, tally: Tally) -> Iterator[Example]:
    """Reads the three files, with the images in ``files`` where that is there.

    Raises:
        DatasetError: If a file is missing or not that file.
    """
    source = Source(path)
    metadata = CsvTable(source.get("mimic-cxr-*-metadata.csv"), METADATA_LAYOUT, tally)
    studies = _read_studies(CsvTable(source.get("mimic-cxr-*-chexpert.csv"), LABELS_LAYOUT, tally), tally)
    splits = _read_splits(CsvTable(source.get("mimic-cxr-*-split.csv"), SPLIT_LAYOUT, tally), tally)
    files = source.folder / "files"
    has_images = files.is_dir()
    wanted = ("dicom_id", "subject_id", "study_id", "ViewPosition")
    seen: set[str] = set()
    for place, (image_id, patient, study_id, view) in metadata.rows(wanted):
        if not _is_wanted(image_id, seen, view, place, tally):
            continue
        study, split = studies.get(study_id), splits.get(image_id)
        if study is None or split is None:
            what = "labels" if study is None else "split"
            tally.report(Kind.NO_LABELS, place, "study_id", f"study {study_id} has no {what}")
            continue
        folder = files / f"p{patient[:2]}" / f"p{patient}" / f"s{study_id}"
        image = _image(folder / image_id) if has_images else None
        if has_images and image is None:
            tally.report(Kind.MISSING_IMAGE, place, "dicom_id", f"no {image_id}.jpg or .dcm in {folder}")
            continue
        yield Example(
            dataset=NAME,
            image_id=image_id,
            image=image,
            patient=patient,
            split=split,
            findings=(),
            labels={PUBLISHED: study.labels},
            judged=study.judged,
            place=place,
        )


def _is_wanted(image_id: str, seen: set[str], view: str, place: Place, tally: Tally) -> bool:
    if not image_id:
        tally.report(Kind.NO_IMAGE_ID, place, "dicom_id", "empty")
    elif image_id in seen:
        tally.report(Kind.DUPLICATE_ROW, place, "", f"another row of {image_id}")
    elif view not in _FRONTAL:
        tally.report(Kind.NOT_FRONTAL, place, "ViewPosition", view or "not said")
    else:
        seen.add(image_id)
        return True
    return False


def _image(stem: Path) -> Path | None:
    # Not with_suffix: a dicom_id may hold dots
    candidates = (stem.parent / f"{stem.name}{suffix}" for suffix in (".jpg", ".dcm"))
    return next((file for file in candidates if file.exists()), None)


def _read_splits(table: CsvTable, tally: Tally) -> dict[str, Split]:
    splits: dict[str, Split] = {}
    for place, (image_id, name) in table.rows(("dicom_id", "split")):
        split = _SPLITS.get(name)
        if split is None:
            tally.report(Kind.SPLIT_VALUE, place, "split", repr(name))
        elif splits.setdefault(image_id, split) != split:
            tally.report(Kind.CONTRADICTORY_ROW, place, "split", f"{name} after {splits[image_id]}")
    return splits


def _read_studies(table: CsvTable, tally: Tally) -> dict[str, _Study]:
    names = [name for name in LABEL_COLUMNS if table.has(name)]
    for name in LABEL_COLUMNS:
        if name not in names:
            tally.report(Kind.MISSING_COLUMN, Place(table.path, 1), name, "no such column")

    @cache  # most of the 227,827 rows say the same as another
    def understood(cells: Cells) -> tuple[_Study, Sequence[tuple[Kind, str, str]]]:
        return _understood(names, cells)

    studies: dict[str, _Study] = {}
    for place, (study_id, *cells) in table.rows(["study_id", *names]):
        study, problems = understood(tuple(cells))
        for kind, column, words in problems:
            tally.report(kind, place, column, words)
        if study_id in studies:
            kind = Kind.DUPLICATE_ROW if studies[study_id] == study else Kind.CONTRADICTORY_ROW
            tally.report(kind, place, "", f"another row of study {study_id}")
            continue
        studies[study_id] = study
    return studies


def _understood(names: Sequence[str], cells: Sequence[str]) -> tuple[_Study, Sequence[tuple[Kind, str, str]]]:
    labels, judged, problems = set(), set(), []
    abnormal = False
    for name, cell in zip(names, cells, strict=True):
        ours = MIMIC.entries[name]
        if is_empty(cell):
            continue
        value = cell.removesuffix(".0")
        if value == "-1":
            problems.append((Kind.LABEL_UNCERTAIN, name, "uncertain"))
        elif value not in ("0", "1"):
            problems.append((Kind.LABEL_VALUE, name, f"{cell!r} is none of 1, 0 and -1"))
        elif isinstance(ours, LeftOut):
            if value == "1":
                problems.append((Kind.UNMAPPED_CLASS, name, ours.reason))
                abnormal |= name != "Support Devices"
        else:
            judged.add(ours)
            if value == "1":
                labels.add(ours)
    abnormal |= bool(labels - {NO_FINDING})
    if abnormal:
        judged.add(NO_FINDING)
    if abnormal and NO_FINDING in labels:
        problems.append((Kind.READER_CONTRADICTS, "No Finding", "1 beside another 1"))
        labels.discard(NO_FINDING)
    elif NO_FINDING in labels:
        judged |= MIMIC.judged
    return _Study(frozenset(labels), frozenset(judged)), problems
