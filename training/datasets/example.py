"""One image of a dataset with everything that its readers said about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, NamedTuple

from litegpt.boxes import Box
from training.datasets.problems import Place

Split = Literal["train", "validation", "test"]

PUBLISHED: Final = "published"
"""The reader of a dataset that publishes one annotation an image and does not say whose it is."""


class Size(NamedTuple):
    """Size of an image's matrix in pixels."""

    columns: int
    rows: int


@dataclass(frozen=True, slots=True)
class MarkedFinding:
    """A finding where a reader saw it.

    Attributes:
        label: A label of ``litegpt.vocabulary.LOCAL_LABELS``.
        box: In pixels of the original image.
        reader: Who marked it.
    """

    label: str
    box: Box
    reader: str


@dataclass(frozen=True, slots=True)
class Example:
    """One image and what was said about it.

    Attributes:
        dataset: Name of the dataset in the catalogue.
        image_id: The dataset's own name of the image.
        image: The image's file; None where the dataset's image folder is not there.
        patient: Whose image it is. Where a dataset does not tell, the image's id: then images of one patient
            cannot be told to be so.
        split: As the dataset's makers chose it; None where they chose none.
        findings: Boxes of all readers, in the order of the dataset's rows.
        labels: For each reader who read the image, the labels of the vocabulary that the reader gave it:
            those of the reader's own boxes, findings without a box, and diagnoses.
        judged: The labels that the readers looked for. One of them that nobody gave is absent; any other
            label is unknown.
        place: Of the first row about the image.
        size: Of the matrix that the boxes refer to; None where only the image's file tells.
    """

    dataset: str
    image_id: str
    image: Path | None
    patient: str
    split: Split | None
    findings: tuple[MarkedFinding, ...]
    labels: Mapping[str, frozenset[str]]
    judged: frozenset[str]
    place: Place = field(compare=False)
    size: Size | None = None

    @property
    def readers(self) -> tuple[str, ...]:
        """Who read the image."""
        return tuple(self.labels)

    @property
    def said(self) -> frozenset[str]:
        """The labels that at least one reader gave."""
        return frozenset().union(*self.labels.values())
