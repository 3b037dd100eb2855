"""What a reader found in a dataset, in numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from litegpt.vocabulary import NO_FINDING
from training.datasets.example import Example
from training.datasets.problems import Tally, Treatment


@dataclass(slots=True)
class Inspection:
    """Counts over the examples of a dataset.

    Attributes:
        tally: Rows and problems.
        images: Examples.
        files: Those with an image file beside the annotations.
        patients: As far as the dataset tells them.
        boxes: Of all readers.
        normal: Images of which every reader says "No finding".
        silent: Images of which nobody says anything in our vocabulary.
        splits: Images by split; "none" where the makers chose none.
        readers: Images by reader.
        readings: Images by number of readers.
        images_by_label: Images to which at least one reader gave the label.
        boxes_by_label: Boxes of all readers.
    """

    tally: Tally
    images: int = 0
    files: int = 0
    patients: set[str] = field(default_factory=set)
    boxes: int = 0
    normal: int = 0
    silent: int = 0
    splits: Counter[str] = field(default_factory=Counter)
    readers: Counter[str] = field(default_factory=Counter)
    readings: Counter[int] = field(default_factory=Counter)
    images_by_label: Counter[str] = field(default_factory=Counter)
    boxes_by_label: Counter[str] = field(default_factory=Counter)

    @property
    def refused(self) -> int:
        """Problems for which something was left out."""
        counts = self.tally.counts.items()
        return sum(count for kind, count in counts if kind.treatment is Treatment.REFUSED)


def inspected(examples: Iterable[Example], tally: Tally) -> Inspection:
    """Counts the examples of a dataset while they are read.

    Args:
        examples: One pass is enough.
        tally: The one that their reader reports to.
    """
    inspection = Inspection(tally)
    for example in examples:
        _add(inspection, example)
    return inspection


def _add(inspection: Inspection, example: Example) -> None:
    said = example.said
    inspection.images += 1
    inspection.files += example.image is not None
    inspection.patients.add(example.patient)
    inspection.boxes += len(example.findings)
    inspection.normal += said == {NO_FINDING} and all(example.labels.values())
    inspection.silent += not said
    inspection.splits[example.split or "none"] += 1
    inspection.readers.update(example.readers)
    inspection.readings[len(example.readers)] += 1
    inspection.images_by_label.update(said)
    inspection.boxes_by_label.update(finding.label for finding in example.findings)
