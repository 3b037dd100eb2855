"""How far the simulated readers agree: figures for a person, counted against what was drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations

from training.phantom.radiograph import Phantom
from training.phantom.readers import ReadingOfOne


@dataclass(slots=True)
class ReaderAgreement:
    """Counts over images, to which each image is added.

    Attributes:
        images, drawn: How many images and drawn findings.
        seen_by: How many drawn findings were seen by 0, 1, 2, … readers.
        overlaps: IoU of each two readers' boxes of the same drawn finding.
        seen, confused, imagined: How many findings readers gave; of these with another label, and not there.
    """

    images: int = 0
    drawn: int = 0
    seen_by: dict[int, int] = field(default_factory=dict)
    overlaps: list[float] = field(default_factory=list)
    seen: int = 0
    confused: int = 0
    imagined: int = 0

    def add(self, phantom: Phantom, readings: Sequence[ReadingOfOne]) -> None:
        """Counts one image."""
        self.images += 1
        self.drawn += len(phantom.findings)
        given = [finding for reading in readings for finding in reading.findings]
        self.seen += len(given)
        self.imagined += sum(finding.drawn is None for finding in given)
        for number, finding in enumerate(phantom.findings):
            same = [one for one in given if one.drawn == number]
            self.confused += sum(one.label != finding.label for one in same)
            self.seen_by[len(same)] = self.seen_by.get(len(same), 0) + 1
            self.overlaps += [one.box.iou(other.box) for one, other in combinations(same, 2)]

    @property
    def mean_iou(self) -> float | None:
        """Of two readers' boxes of the same finding; None where no two saw the same."""
        return sum(self.overlaps) / len(self.overlaps) if self.overlaps else None

    def seen_by_all(self, readers: int) -> float | None:
        """The part of the drawn findings that all readers saw; None where none was drawn."""
        return self.seen_by.get(readers, 0) / self.drawn if self.drawn else None

    def lines(self, readers: int) -> list[str]:
        """The figures as a person reads them."""
        if not self.drawn or self.mean_iou is None:
            return [f"{readers} readers of {self.images:,} images: no finding that two of them saw"]
        shares = ", ".join(
            f"by {count} {self.seen_by.get(count, 0) / self.drawn:.0%}" for count in range(readers, -1, -1)
        )
        return [
            f"{readers} readers of {self.images:,} images with {self.drawn:,} findings:",
            f"  seen {shares}",
            f"  mean IoU of two readers' boxes of the same finding: {self.mean_iou:.2f}",
            f"  of {self.seen:,} findings given: {self.confused / self.seen:.1%} under another label, "
            f"{self.imagined / self.seen:.1%} not there",
        ]
