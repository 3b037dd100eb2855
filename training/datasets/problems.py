"""What can be wrong with a dataset, and what is done about each kind of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from pathlib import Path
from typing import Final, NamedTuple

SHOWN: Final = 3
"""Problems of a kind that are kept whole by default; the others are counted."""


class Treatment(StrEnum):
    """What becomes of the data that a problem is about."""

    REPAIRED = "repaired"
    REFUSED = "refused"
    KEPT = "kept"


class Kind(Enum):
    """The kinds of problems: name, treatment, and the rule in words."""

    BYTE_ORDER_MARK = ("byte-order-mark", Treatment.REPAIRED, "skipped")
    CRLF = ("crlf", Treatment.REPAIRED, "read as LF")
    COLUMN_ORDER = ("column-order", Treatment.REPAIRED, "columns are found by their names")
    UNKNOWN_COLUMN = ("unknown-column", Treatment.REFUSED, "the column or field is not read")
    MISSING_COLUMN = ("missing-column", Treatment.REPAIRED, "the label is unknown for all images of the file")

    RAGGED_ROW = ("ragged-row", Treatment.REFUSED, "a row with too few or too many fields is not read")
    BAD_FIELD = ("bad-field", Treatment.REFUSED, "a line whose JSON is not as described is not read")
    NO_IMAGE_ID = ("no-image-id", Treatment.REFUSED, "a row that names no image is not read")
    DUPLICATE_ROW = ("duplicate-row", Treatment.REPAIRED, "counted once")
    CONTRADICTORY_ROW = ("contradictory-row", Treatment.REFUSED, "the first row of the same subject stands")

    UNKNOWN_CLASS = ("unknown-class", Treatment.REFUSED, "the class is left out; the image stays")
    UNMAPPED_CLASS = ("unmapped-class", Treatment.REFUSED, "left out, for the reason in the table of labels")
    CLASS_SPELLING = (
        "class-spelling",
        Treatment.REPAIRED,
        "taken for the class that differs in case or blanks",
    )
    CLASS_NUMBER = ("class-number", Treatment.REPAIRED, "the class's name stands")
    LABEL_MISSING = ("label-missing", Treatment.REPAIRED, "empty or NaN: the label is unknown for this image")
    LABEL_UNCERTAIN = ("label-uncertain", Treatment.REPAIRED, "-1: the label is unknown for this image")
    LABEL_VALUE = ("label-value", Treatment.REFUSED, "neither 0 nor 1: the label is unknown for this image")

    BOX_NUMBER = ("box-number", Treatment.REFUSED, "no number: the box goes, the image keeps the label")
    BOX_INCOMPLETE = ("box-incomplete", Treatment.REFUSED, "the box goes, the image keeps the label")
    BOX_EMPTY = ("box-empty", Treatment.REFUSED, "no area: the box goes, the image keeps the label")
    BOX_OFF_IMAGE = (
        "box-off-image",
        Treatment.REFUSED,
        "wholly outside: the box goes, the image keeps the label",
    )
    BOX_OUTSIDE = ("box-outside", Treatment.REPAIRED, "cut to the part inside the image")
    BOX_REVERSED = ("box-reversed", Treatment.REPAIRED, "the corners are put in order")
    BOX_MISSING = ("box-missing", Treatment.REPAIRED, "a finding without a box: the image keeps the label")
    DIAGNOSIS_WITH_BOX = ("diagnosis-with-box", Treatment.REPAIRED, "the box goes, the image keeps the label")

    MISSING_IMAGE = ("missing-image", Treatment.REFUSED, "no file in the image folder: no example")
    UNREADABLE_IMAGE = ("unreadable-image", Treatment.REFUSED, "no example")
    IMAGE_SIZE = ("image-size", Treatment.REFUSED, "not the size that the boxes refer to: no example")
    IMAGE_WITHOUT_ROWS = ("image-without-rows", Treatment.REFUSED, "a file that no row speaks of: no example")
    NO_LABELS = ("no-labels", Treatment.REFUSED, "an image that no label file speaks of: no example")
    NOT_FRONTAL = ("not-frontal", Treatment.REFUSED, "no PA or AP view: no example")
    SPLIT_VALUE = ("split-value", Treatment.REFUSED, "neither train, validation nor test: no example")
    TWO_SPLITS = ("two-splits", Treatment.REFUSED, "the split in which the patient comes first stands")

    READER_CONTRADICTS = ("reader-contradicts", Treatment.REPAIRED, '"No finding" beside a finding goes')
    LABEL_CONTRADICTS_BOX = ("label-contradicts-box", Treatment.REPAIRED, "both count; no box is invented")
    READERS_DISAGREE = (
        "readers-disagree",
        Treatment.KEPT,
        "all readers are kept; the rule of agreement decides",
    )

    def __init__(self, label: str, treatment: Treatment, rule: str) -> None:
        self.label = label
        self.treatment = treatment
        self.rule = rule


class Place(NamedTuple):
    """Where something stands: a file and, from 1, a line of it."""

    file: Path
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        kind: What kind of thing, which also says what was done.
        place: File and line.
        column: Name of the CSV column, or path of the JSON field; empty where the whole line is meant.
        words: What stands there.
    """

    kind: Kind
    place: Place
    column: str
    words: str

    def __str__(self) -> str:
        where = [str(self.place.file), *([str(self.place.line)] if self.place.line else [])]
        return ": ".join([":".join(where), *([self.column] if self.column else []), self.words])


class Tally:
    """Counts rows and problems while a dataset is read.

    Args:
        shown: Problems of a kind to keep whole, in the order they came; 0 keeps all.
    """

    def __init__(self, shown: int = SHOWN) -> None:
        self._shown = shown
        self._counts: Counter[Kind] = Counter()
        self._first: dict[Kind, list[Problem]] = {}
        self.rows: Counter[Path] = Counter()
        """Rows read, by file."""

    def report(self, kind: Kind, place: Place, column: str, words: str) -> None:
        """Counts a problem."""
        self._counts[kind] += 1
        kept = self._first.setdefault(kind, [])
        if not self._shown or len(kept) < self._shown:
            kept.append(Problem(kind, place, column, words))

    @property
    def counts(self) -> Mapping[Kind, int]:
        """How many problems there are of each kind that occurred, in the order of ``Kind``."""
        return {kind: self._counts[kind] for kind in Kind if kind in self._counts}

    def first(self, kind: Kind) -> Sequence[Problem]:
        """The first problems of a kind."""
        return tuple(self._first.get(kind, ()))
