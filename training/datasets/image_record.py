"""What the rows of a dataset say about one image, gathered until it becomes an example."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from litegpt.vocabulary import DIAGNOSES, NO_FINDING
from training.datasets.example import MarkedFinding, Size
from training.datasets.problems import Kind, Place, Tally
from training.datasets.written_box import BoxColumns, is_empty


class ImageRecord:
    """One image's findings and labels, by reader.

    Args:
        place: The first row about the image.
    """

    __slots__ = ("findings", "labels", "place")

    def __init__(self, place: Place) -> None:
        self.place = place
        self.findings: list[MarkedFinding] = []
        self.labels: dict[str, set[str]] = {}

    def read_by(self, reader: str) -> set[str]:
        """The labels that a reader gave the image; asking makes the reader one of the image's."""
        return self.labels.setdefault(reader, set())

    def add_row(
        self,
        reader: str,
        label: str | None,
        cells: Sequence[str | float],
        boxes: BoxColumns,
        size: Size | None,
        place: Place,
        tally: Tally,
    ) -> None:
        """Adds a row of a label and, where its cells hold one, a box.

        Args:
            reader: Whose row it is.
            label: Of the vocabulary; None where there was none for the row's class.
            cells: Those of the box.
            boxes: How they write it.
            size: Of the image, where it is known.
            place: Of the row.
            tally: Takes problems.
        """
        said = self.read_by(reader)
        if label is None:
            return
        column = boxes.names[0]
        if all(map(is_empty, cells)):
            self._report_statement(reader, label, place, column, tally)
        elif box := boxes.read(cells, size, place, tally):
            self._mark(MarkedFinding(label, box, reader), place, column, tally)
        said.add(label)

    def _report_statement(self, reader: str, label: str, place: Place, column: str, tally: Tally) -> None:
        if label in self.labels[reader]:
            tally.report(Kind.DUPLICATE_ROW, place, "", f"{reader} says {label} again")
        elif label not in DIAGNOSES:
            tally.report(Kind.BOX_MISSING, place, column, f"{label} without a box")

    def _mark(self, marked: MarkedFinding, place: Place, column: str, tally: Tally) -> None:
        if marked.label in DIAGNOSES:
            tally.report(Kind.DIAGNOSIS_WITH_BOX, place, column, f"{marked.label} has no place in the image")
        elif marked in self.findings:
            words = f"{marked.reader} marks {marked.label} in the same place again"
            tally.report(Kind.DUPLICATE_ROW, place, "", words)
        else:
            self.findings.append(marked)

    def consistent_labels(self, column: str, tally: Tally) -> Mapping[str, frozenset[str]]:
        """The labels by reader, without "No finding" where its own reader found something."""
        for reader, said in self.labels.items():
            if NO_FINDING in said and len(said) > 1:
                others = ", ".join(sorted(said - {NO_FINDING}))
                tally.report(
                    Kind.READER_CONTRADICTS, self.place, column, f"{reader}: {NO_FINDING} and {others}"
                )
                said.discard(NO_FINDING)
        labels = {reader: frozenset(said) for reader, said in self.labels.items()}
        self._report_disagreement(labels.values(), column, tally)
        return labels

    def _report_disagreement(self, labels: Iterable[frozenset[str]], column: str, tally: Tally) -> None:
        normal = sum(said == {NO_FINDING} for said in labels)
        abnormal = sum(bool(said - {NO_FINDING}) for said in labels)
        if normal and abnormal:
            words = f"{normal} of {len(self.labels)} readers say {NO_FINDING}, {abnormal} found something"
            tally.report(Kind.READERS_DISAGREE, self.place, column, words)
