"""What the rows of a dataset say about one image, gathered until it becomes an example."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from litegpt.boxes import Box
from litegpt.vocabulary import DIAGNOSES, NO_FINDING
from training.datasets.example import MarkedFinding
from training.datasets.problems import Kind, Place, Tally


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

    def mark(self, reader: str, label: str, box: Box, place: Place, column: str, tally: Tally) -> None:
        """Adds a box; of a diagnosis, which has no place in our vocabulary, only the label."""
        if label in DIAGNOSES:
            tally.report(Kind.DIAGNOSIS_WITH_BOX, place, column, f"{label} has no place in the image")
            self.read_by(reader).add(label)
            return
        marked = MarkedFinding(label, box, reader)
        if marked in self.findings:
            tally.report(Kind.DUPLICATE_ROW, place, "", f"{reader} marks {label} in the same place again")
            return
        self.findings.append(marked)
        self.read_by(reader).add(label)

    def state(self, reader: str, label: str, place: Place, column: str, tally: Tally) -> None:
        """Adds what a row says of the whole image."""
        said = self.read_by(reader)
        if label in said:
            tally.report(Kind.DUPLICATE_ROW, place, "", f"{reader} says {label} again")
        elif label not in DIAGNOSES:
            tally.report(Kind.BOX_MISSING, place, column, f"{label} without a box")
        said.add(label)

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
