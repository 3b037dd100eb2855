"""Phantoms as ``litegpt-train phantom`` writes them: DICOM files, and ``truth.json`` beside them.

``training.phantom.collection`` writes that file, which says what is drawn. A phantom's study is its patient.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from litegpt.vocabulary import DIAGNOSES
from training.datasets.example import PUBLISHED, Example, Size
from training.datasets.image_record import ImageRecord
from training.datasets.label_tables import OURS
from training.datasets.problems import Kind, Place, Tally
from training.datasets.source import Source
from training.datasets.written_box import BoxColumns
from training.errors import DatasetError

NAME: Final = "phantom"


class _Finding(BaseModel):
    model_config = ConfigDict(strict=True)

    label: str
    box: list[float]


class _Phantom(BaseModel):
    model_config = ConfigDict(strict=True)

    file: str
    study: str
    rows: int
    columns: int
    findings: list[_Finding]
    diagnoses: list[str]


_TRUTH: Final = TypeAdapter(list[_Phantom])


def read(path: Path, tally: Tally) -> Iterator[Example]:
    """Reads ``truth.json`` in a folder, with the phantoms beside it.

    Raises:
        DatasetError: If there is no such file, or it is not that file.
    """
    # Imported here: what draws phantoms takes longer to load than all the readers together
    from training.phantom.choice import DRAWN_LABELS
    from training.phantom.collection import TRUTH_NAME

    judged = frozenset({*DRAWN_LABELS, *DIAGNOSES})
    file = Source(path).get(TRUTH_NAME)
    place = Place(file)
    phantoms = _truth(file)
    tally.rows[file] = len(phantoms)
    for number, phantom in enumerate(phantoms):
        image = file.parent / phantom.file
        if not image.is_file():
            tally.report(Kind.MISSING_IMAGE, place, f"{number}.file", f"no file {image}")
            continue
        record = _record(phantom, number, place, tally)
        yield Example(
            dataset=NAME,
            image_id=phantom.file,
            image=image,
            patient=phantom.study,
            split=None,
            findings=tuple(record.findings),
            labels=record.consistent_labels(f"{number}.diagnoses", tally),
            judged=judged,
            place=place,
            size=Size(phantom.columns, phantom.rows),
        )


def _truth(file: Path) -> list[_Phantom]:
    try:
        return _TRUTH.validate_json(file.read_bytes())
    except OSError as error:
        raise DatasetError(f"cannot be read: {error.strerror or error}", file) from None
    except ValidationError as error:
        first = error.errors()[0]
        column = ".".join(str(part) for part in first["loc"])
        words = f"{column}: {first['msg']}" if column else first["msg"]
        raise DatasetError(f"no truth of phantoms: {words}", file) from None


def _record(phantom: _Phantom, number: int, place: Place, tally: Tally) -> ImageRecord:
    record = ImageRecord(place)
    said = record.read_by(PUBLISHED)
    size = Size(phantom.columns, phantom.rows)
    for index, finding in enumerate(phantom.findings):
        label = OURS.ours(finding.label, place, f"{number}.findings.{index}.label", tally)
        boxes = BoxColumns.of_field(f"{number}.findings.{index}.box")
        record.add_row(PUBLISHED, label, finding.box, boxes, size, place, tally)
    for index, diagnosis in enumerate(phantom.diagnoses):
        if label := OURS.ours(diagnosis, place, f"{number}.diagnoses.{index}", tally):
            said.add(label)
    return record
