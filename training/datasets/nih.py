"""NIH ChestX-ray14 (Wang et al., CVPR 2017): 112,120 frontal images of 30,805 patients, 984 boxes.

- ``Data_Entry_2017.csv`` (or ``…_v2020.csv``), a row an image:

      Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,
      OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],

  on one line. The bracketed names hold commas, so each is two columns; the last comma makes a nameless one.
  The labels are mined from the reports' text and joined by ``|``. The sizes are those of the radiographs
  before the NIH made PNGs of 1024 × 1024 of them: no box refers to them.
- ``BBox_List_2017.csv``, a row a box: ``Image Index,Finding Label,Bbox [x,y,w,h],,,``; pixels of the PNG;
  drawn by a radiologist. It writes ``Infiltrate`` where the other file writes ``Infiltration``.
- ``train_val_list.txt``, ``test_list.txt``: the makers' split by patient, a name a line.

Images: ``images/*.png``, or ``images_001/images/*.png`` to ``images_012`` as they are unpacked. Read in: the
collection's own box file, and copies of ``Data_Entry_2017.csv`` in public repositories.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from litegpt.vocabulary import LABELS
from training.datasets.csv_table import CsvTable
from training.datasets.example import PUBLISHED, Example, Size, Split
from training.datasets.image_folder import ImageFolder
from training.datasets.image_record import ImageRecord
from training.datasets.label_tables import NIH
from training.datasets.problems import Kind, Place, Tally
from training.datasets.source import Source
from training.datasets.written_box import BoxColumns, is_empty
from training.errors import DatasetError

NAME: Final = "nih"

ENTRIES_LAYOUT: Final = (
    "Image Index",
    "Finding Labels",
    "Follow-up #",
    "Patient ID",
    "Patient Age",
    "Patient Gender",
    "Patient Sex",
    "View Position",
    "OriginalImage[Width",
    "Height]",
    "OriginalImagePixelSpacing[x",
    "y]",
)
_CORNERS: Final = ("Bbox [x", "y", "w", "h]")
BOXES_LAYOUT: Final = ("Image Index", "Finding Label", *_CORNERS)

SIZE: Final = Size(1024, 1024)
"""Of every published PNG; the boxes are in its pixels."""

_BOXES: Final = BoxColumns(_CORNERS, extent=True)


def read(path: Path, tally: Tally) -> Iterator[Example]:
    """Reads both files, or whichever is there: of the boxes alone, the images that have one.

    Raises:
        DatasetError: If there is neither, or a file is not that file.
    """
    source = Source(path)
    entries = source.find("*Data_Entry_2017*.csv")
    boxes = source.find("*BBox_List_2017*.csv")
    if not entries and not boxes:
        raise DatasetError("there is neither Data_Entry_2017.csv nor BBox_List_2017.csv", path)
    records = _read_boxes(CsvTable(boxes, BOXES_LAYOUT, tally), tally) if boxes else {}
    judged = {image_id: _marked(record) for image_id, record in records.items()}
    if entries:
        records, judged = _read_entries(CsvTable(entries, ENTRIES_LAYOUT, tally), records, tally)
    images = ImageFolder([source.folder / "images", *source.folder.glob("images_*/images")], {".png"})
    splits = _splits(source, tally)
    for image_id, record in records.items():
        image = images.find(Path(image_id).stem, record.place, "Image Index", tally)
        labels = record.consistent_labels("Finding Labels", tally)
        if images and image is None:
            continue
        yield Example(
            dataset=NAME,
            image_id=image_id,
            image=image,
            patient=patient_of(image_id),
            split=splits.get(image_id),
            findings=tuple(record.findings),
            labels=labels,
            judged=judged[image_id],
            place=record.place,
            size=SIZE,
        )
    if entries:
        images.report_unasked(tally)


def patient_of(image_id: str) -> str:
    """The patient in the name of an image, ``{patient}_{follow-up}.png``."""
    return Path(image_id).stem.partition("_")[0]


def _read_boxes(table: CsvTable, tally: Tally) -> dict[str, ImageRecord]:
    records: dict[str, ImageRecord] = {}
    for place, (image_id, name, *cells) in table.rows(BOXES_LAYOUT):
        if not image_id:
            tally.report(Kind.NO_IMAGE_ID, place, "Image Index", "empty")
            continue
        record = records.setdefault(image_id, ImageRecord(place))
        label = NIH.ours(name, place, "Finding Label", tally)
        record.add_row(PUBLISHED, label, cells, _BOXES, SIZE, place, tally)
    return records


def _marked(record: ImageRecord) -> frozenset[str]:
    return frozenset(record.read_by(PUBLISHED))


def _read_entries(
    table: CsvTable, boxes: dict[str, ImageRecord], tally: Tally
) -> tuple[dict[str, ImageRecord], dict[str, frozenset[str]]]:
    """Joins the images' own labels to their boxes; gives records, and what was judged of each image."""
    records: dict[str, ImageRecord] = {}
    judged: dict[str, frozenset[str]] = {}
    written: dict[str, str] = {}
    for place, (image_id, text) in table.rows(ENTRIES_LAYOUT[:2]):
        if not image_id:
            tally.report(Kind.NO_IMAGE_ID, place, "Image Index", "empty")
            continue
        if image_id in written:
            kind = Kind.DUPLICATE_ROW if written[image_id] == text else Kind.CONTRADICTORY_ROW
            tally.report(kind, place, "", f"another row of {image_id}")
            continue
        written[image_id] = text
        record = records[image_id] = boxes.get(image_id) or ImageRecord(place)
        record.place = place
        if is_empty(text):
            tally.report(Kind.LABEL_MISSING, place, "Finding Labels", f"{text!r} names no label")
            judged[image_id] = _marked(record)
            continue
        judged[image_id] = NIH.judged
        _add_labels(record, text, place, tally)
    for image_id in boxes.keys() - records.keys():
        place = boxes[image_id].place
        tally.report(Kind.NO_LABELS, place, "Image Index", f"{image_id} is not in {table.path.name}")
    return records, judged


def _add_labels(record: ImageRecord, text: str, place: Place, tally: Tally) -> None:
    named = [NIH.ours(name, place, "Finding Labels", tally) for name in text.split("|")]
    labels = {label for label in named if label}
    for label in sorted(_marked(record) - labels, key=LABELS.index):
        tally.report(
            Kind.LABEL_CONTRADICTS_BOX, place, "Finding Labels", f"{text}, but there is a box of {label}"
        )
    record.read_by(PUBLISHED).update(labels)


def _splits(source: Source, tally: Tally) -> dict[str, Split]:
    lists: tuple[tuple[Split, str], ...] = (("test", "test_list*.txt"), ("train", "train_val_list*.txt"))
    splits: dict[str, Split] = {}
    for split, pattern in lists:
        file = source.find(pattern)
        for place, image_id in _names(file) if file else ():
            if splits.setdefault(image_id, split) != split:
                tally.report(Kind.TWO_SPLITS, place, "", f"{image_id} is in both lists")
    return splits


def _names(file: Path) -> Iterator[tuple[Place, str]]:
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"cannot be read: {error}", file) from None
    return ((Place(file, number), line.strip()) for number, line in enumerate(lines, 1) if line.strip())
