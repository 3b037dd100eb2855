"""A hospital's own data: JSON lines, one object an image, in our vocabulary.

    {"image": "2024/0001.dcm", "patient": "p17", "split": "train", "readers": ["R1", "R2"],
     "findings": [{"label": "Cardiomegaly", "box": [310, 820, 1640, 1530], "reader": "R1"}],
     "labels": [{"label": "Other disease", "reader": "R1"}, {"label": "No finding", "reader": "R2"}]}

on one line. ``image`` is a path from the file's own folder; it alone is required. ``box`` is left, top, right
and bottom in pixels of the image as stored. ``patient`` should be there: without it two images of one patient
may end up on both sides of a split. A label that names no reader may be a mere word. ``split`` is train,
validation or test. ``readers`` names those who read the image, also those who found nothing; without it,
those who are named, or one nameless reader. ``judged`` lists the labels that were looked for; without it,
all. ``columns`` and ``rows`` give the size, where boxes are to be checked against it before the image is
opened. An image has one line.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from litegpt.vocabulary import LABELS
from training.datasets.csv_table import BYTE_ORDER_MARK
from training.datasets.example import PUBLISHED, Example, Size, Split
from training.datasets.image_record import ImageRecord
from training.datasets.label_tables import OURS
from training.datasets.problems import Kind, Place, Tally
from training.datasets.source import Source
from training.datasets.written_box import BoxColumns
from training.errors import DatasetError

NAME: Final = "jsonl"

_SPLITS: Final[dict[str, Split]] = {"train": "train", "validation": "validation", "test": "test"}


class _Item(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)

    @property
    def unknown_fields(self) -> list[str]:
        return sorted(self.model_extra or ())


class _Finding(_Item):
    label: str
    box: list[float] | None = None
    reader: str | None = None


class _Label(_Item):
    label: str
    reader: str | None = None


class _Line(_Item):
    image: str = Field(min_length=1)
    patient: str | None = None
    split: str | None = None
    columns: int | None = Field(default=None, gt=0)
    rows: int | None = Field(default=None, gt=0)
    readers: list[str] = []
    findings: list[_Finding] = []
    labels: list[str | _Label] = []
    judged: list[str] | None = None

    @property
    def size(self) -> Size | None:
        return Size(self.columns, self.rows) if self.columns and self.rows else None

    @property
    def sole_reader(self) -> str:
        """Of what names no reader."""
        return self.readers[0] if len(self.readers) == 1 else PUBLISHED


def read(path: Path, tally: Tally) -> Iterator[Example]:
    """Reads a file of JSON lines, or the only ``*.jsonl`` of a folder; images from its folder on.

    Raises:
        DatasetError: If there is no such file, or it cannot be read.
    """
    source = Source(path)
    file = path if path.is_file() else source.get("*.jsonl")
    seen: dict[str, tuple[int | None, int]] = {}
    for place, line_bytes in _lines(file, tally):
        line = _parsed(line_bytes, place, tally)
        if line is None:
            continue
        content = hash(line_bytes.strip())
        number, first = seen.setdefault(line.image, (place.line, content))
        if number != place.line:
            kind = Kind.DUPLICATE_ROW if content == first else Kind.CONTRADICTORY_ROW
            tally.report(kind, place, "image", f"{line.image} again, after line {number}")
            continue
        if example := _example(line, file.parent, place, tally):
            yield example


def _lines(file: Path, tally: Tally) -> Iterator[tuple[Place, bytes]]:
    try:
        with file.open("rb") as stream:
            for number, line in enumerate(stream, 1):
                place = Place(file, number)
                if number == 1 and line.startswith(BYTE_ORDER_MARK):
                    tally.report(Kind.BYTE_ORDER_MARK, place, "", "the file begins with a byte order mark")
                    line = line.removeprefix(BYTE_ORDER_MARK)
                if line.strip():
                    tally.rows[file] += 1
                    yield place, line
    except OSError as error:
        raise DatasetError(f"cannot be read: {error.strerror or error}", file) from None


def _parsed(line_bytes: bytes, place: Place, tally: Tally) -> _Line | None:
    try:
        line = _Line.model_validate_json(line_bytes)
    except ValidationError as error:
        first = error.errors()[0]
        column = ".".join(str(part) for part in first["loc"])
        kind = Kind.NO_IMAGE_ID if column == "image" else Kind.BAD_FIELD
        tally.report(kind, place, column, first["msg"])
        return None
    for column, item in (
        ("", line),
        *((f"findings.{index}.", item) for index, item in enumerate(line.findings)),
        *((f"labels.{index}.", item) for index, item in enumerate(line.labels) if isinstance(item, _Label)),
    ):
        for name in item.unknown_fields:
            tally.report(Kind.UNKNOWN_COLUMN, place, f"{column}{name}", "no field of this format")
    return line


def _example(line: _Line, folder: Path, place: Place, tally: Tally) -> Example | None:
    if line.split is not None and line.split not in _SPLITS:
        tally.report(Kind.SPLIT_VALUE, place, "split", repr(line.split))
        return None
    image = folder / line.image
    if not image.is_file():
        tally.report(Kind.MISSING_IMAGE, place, "image", f"no file {image}")
        return None
    record = _record(line, place, tally)
    return Example(
        dataset=NAME,
        image_id=line.image,
        image=image,
        patient=line.patient or line.image,
        split=_SPLITS[line.split] if line.split else None,
        findings=tuple(record.findings),
        labels=record.consistent_labels("labels", tally),
        judged=_judged(line, place, tally),
        place=place,
        size=line.size,
    )


def _record(line: _Line, place: Place, tally: Tally) -> ImageRecord:
    record = ImageRecord(place)
    for reader in line.readers:
        record.read_by(reader)
    for index, finding in enumerate(line.findings):
        reader = finding.reader or line.sole_reader
        label = OURS.ours(finding.label, place, f"findings.{index}.label", tally)
        boxes = BoxColumns.of_field(f"findings.{index}.box")
        record.add_row(reader, label, finding.box or (), boxes, line.size, place, tally)
    for index, stated in enumerate(line.labels):
        item = _Label(label=stated) if isinstance(stated, str) else stated
        said = record.read_by(item.reader or line.sole_reader)
        if label := OURS.ours(item.label, place, f"labels.{index}.label", tally):
            said.add(label)
    if not record.labels:
        record.read_by(PUBLISHED)
    return record


def _judged(line: _Line, place: Place, tally: Tally) -> frozenset[str]:
    if line.judged is None:
        return frozenset(LABELS)
    named = (OURS.ours(name, place, f"judged.{index}", tally) for index, name in enumerate(line.judged))
    return frozenset(label for label in named if label)
