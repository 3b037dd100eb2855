"""How far two models agree on a label: counts, Cohen's kappa, overlap of boxes, difference of scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from litegpt.boxes import Box
from litegpt.vocabulary import LABELS
from service.comparing.readings import Opinion, Opinions


@dataclass(slots=True)
class LabelAgreement:
    """Sums over images that both models read.

    Attributes:
        both: Images in which both report the label.
        only_a: In which only the first does.
        only_b: In which only the second does.
        box_pairs: Pairs of boxes, one of each model, in images in which both report it.
        scored: Images in which both have a finding of it, reported or not.
    """

    both: int = 0
    only_a: int = 0
    only_b: int = 0
    box_pairs: int = 0
    scored: int = 0
    _iou: float = 0.0
    _score_difference: float = 0.0

    def add(self, a: Opinion | None, b: Opinion | None) -> None:
        """One more image, of which at least one of them says something of the label."""
        by_a, by_b = a is not None and a.reported, b is not None and b.reported
        self.both += by_a and by_b
        self.only_a += by_a and not by_b
        self.only_b += by_b and not by_a
        if a is not None and b is not None:
            overlaps = ious(a.boxes, b.boxes)
            self.box_pairs += len(overlaps)
            self._iou += sum(overlaps)
            self.scored += 1
            self._score_difference += b.score - a.score

    def kappa(self, images: int) -> float | None:
        """Cohen's kappa of "reported or not" (Educ Psychol Meas 1960;20:37-46).

        Args:
            images: All that both read.

        Returns:
            -1..1; ``None`` where both say the same of every image, so that chance alone agrees as much.
        """
        a, b = self.both + self.only_a, self.both + self.only_b
        agree = images - self.only_a - self.only_b
        # Both times the square of the number of images, so that the sums are exact.
        by_chance = a * b + (images - a) * (images - b)
        return None if by_chance == images**2 else (agree * images - by_chance) / (images**2 - by_chance)

    @property
    def mean_iou(self) -> float | None:
        """Of the pairs of boxes."""
        return self._iou / self.box_pairs if self.box_pairs else None

    @property
    def mean_score_difference(self) -> float | None:
        """The second's score less the first's."""
        return self._score_difference / self.scored if self.scored else None


@dataclass(slots=True)
class Agreement:
    """Over all labels that either model had a finding of.

    Attributes:
        images: That both read.
        by_label: Sums by label.
    """

    images: int = 0
    by_label: dict[str, LabelAgreement] = field(default_factory=dict)

    def add(self, a: Opinions, b: Opinions) -> None:
        """One more image."""
        self.images += 1
        for label in a.keys() | b.keys():
            self.by_label.setdefault(label, LabelAgreement()).add(a.get(label), b.get(label))

    def labels(self) -> list[str]:
        """In the vocabulary's order; what it does not have comes last."""
        order = {label: place for place, label in enumerate(LABELS)}
        return sorted(self.by_label, key=lambda label: (order.get(label, len(order)), label))


def ious(ones: Sequence[Box], others: Sequence[Box]) -> list[float]:
    """Of pairs of boxes, those that overlap most paired first, until one side has none left.

    A pair that does not overlap counts, with 0: both models report the label, in different places.
    """
    overlaps = sorted(
        ((one.iou(other), i, j) for i, one in enumerate(ones) for j, other in enumerate(others)),
        key=lambda pair: (-pair[0], pair[1], pair[2]),
    )
    paired: list[float] = []
    left, right = set[int](), set[int]()
    for iou, i, j in overlaps:
        if i not in left and j not in right:
            left.add(i)
            right.add(j)
            paired.append(iou)
    return paired
