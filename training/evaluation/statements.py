"""What is true of an image and what a model said of it, in the one form that all measures compare."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from litegpt.answers import write_diagnoses, write_findings
from litegpt.boxes import Box
from litegpt.findings import Finding, Reading
from litegpt.prompts import IDENTIFY, VQA
from litegpt.vocabulary import LABELS, LOCAL_LABELS, NO_FINDING


@dataclass(frozen=True, slots=True)
class Statement:
    """What is true of, or said about, one image.

    Attributes:
        boxes: Local labels with their boxes, in pixels of the image.
        diagnoses: Global labels.
        present: Local labels that are there, but not where.
    """

    boxes: tuple[tuple[str, Box], ...]
    diagnoses: frozenset[str]
    present: frozenset[str] = frozenset()

    @property
    def placed(self) -> frozenset[str]:
        """The local labels that have a box."""
        return frozenset(label for label, _ in self.boxes)

    @property
    def labels(self) -> frozenset[str]:
        """The local labels, with or without a box."""
        return self.placed | self.present

    @property
    def named(self) -> frozenset[str]:
        """All labels, local and global."""
        return self.labels | self.diagnoses


@dataclass(frozen=True, slots=True)
class Case:
    """One image of a test set.

    Attributes:
        truth: What is true of it.
        columns: Its width in pixels, which the answers' grid needs.
        rows: Its height.
        judged: The labels that were looked for: one of these that is not true is absent, any other unknown.
    """

    truth: Statement
    columns: int
    rows: int
    judged: frozenset[str] = frozenset(LABELS)

    @property
    def comparable(self) -> frozenset[str]:
        """The labels whose boxes can be right or wrong: judged, and not there without anyone saying where."""
        return self.judged - (self.truth.present - self.truth.placed)


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers to both prompts, as text."""

    identify: str
    vqa: str

    @property
    def sentences(self) -> tuple[str, ...]:
        """Both as the published labels join them: diagnoses first, and ``No finding`` stands alone."""
        if NO_FINDING.lower() in self.vqa.lower():
            return (self.vqa,)
        return self.vqa, self.identify


def stated(reading: Reading) -> Statement:
    """What a model reports of an image."""
    reported = [finding for finding in reading.findings if finding.reported]
    boxes = tuple((finding.label, finding.box) for finding in reported if finding.box is not None)
    unplaced = frozenset(finding.label for finding in reported if finding.box is None)
    return Statement(boxes, unplaced.difference(LOCAL_LABELS), unplaced.intersection(LOCAL_LABELS))


def ranked(reading: Reading, labels: Collection[str]) -> list[tuple[str, Box, float]]:
    """Every box that a model can place, said or only a candidate, with the score that it is ranked by.

    That is ``Finding.score`` as it is, whatever is reported.
    """
    return [
        (finding.label, finding.box, finding.score)
        for finding in (*reading.findings, *reading.candidates)
        if finding.box is not None and finding.label in labels
    ]


def written(statement: Statement, columns: int, rows: int) -> Answers:
    """The answers that make this statement, in the published format.

    Args:
        statement: About an image of ``columns`` × ``rows`` pixels; boxes are rounded to the grid of 0..100.
        columns: Width.
        rows: Height.
    """
    return Answers(
        write_findings((label, box.to_grid(columns, rows)) for label, box in statement.boxes),
        write_diagnoses(statement.diagnoses),
    )


def answered(reading: Reading, case: Case) -> Answers:
    """What a model answered: its own words, or else its statement in the published format.

    A reading that failed answered nothing.
    """
    if reading.failure is not None:
        return Answers("", "")
    if IDENTIFY in reading.answers and VQA in reading.answers:
        return Answers(reading.answers[IDENTIFY], reading.answers[VQA])
    return written(stated(reading), case.columns, case.rows)


def boxes_of(statement: Statement, labels: Collection[str]) -> list[tuple[str, Box]]:
    """The boxes of some labels."""
    return [(label, box) for label, box in statement.boxes if label in labels]


def with_comparable_boxes(reading: Reading, case: Case) -> Reading:
    """A reading without the boxes of which the truth of this image cannot tell whether they are right."""

    def kept(findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
        return tuple(one for one in findings if one.box is None or one.label in case.comparable)

    return replace(reading, findings=kept(reading.findings), candidates=kept(reading.candidates))


def repeating(statement: Statement) -> Reading:
    """A reading that says this with certainty."""
    placed = [Finding(label, 1.0, box) for label, box in statement.boxes]
    unplaced = sorted((statement.present - statement.placed) | statement.diagnoses)
    return Reading((*placed, *(Finding(label, 1.0) for label in unplaced)))
