"""Thresholds: from which calibrated score on the findings of a label are worth reporting."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

ENOUGH: Final = 20
"""Findings of a label that must have been said, and that must have been true, for a threshold of its own."""

GRID: Final = tuple(step / 100 for step in range(100))
"""The thresholds that are tried."""


@dataclass(slots=True)
class Tally:
    """What was said of one label, or of several, and what was there.

    Attributes:
        said: Calibrated score of each finding said, and whether it is right.
        found: For each true finding, the best score of those said that are like it; -1 where there is none.
    """

    said: list[tuple[float, bool]] = field(default_factory=list)
    found: list[float] = field(default_factory=list)

    @property
    def is_enough(self) -> bool:
        """Whether there are enough examples for a threshold of its own."""
        return min(len(self.said), len(self.found)) >= ENOUGH

    def f1(self, threshold: float) -> float:
        """Harmonic mean of precision and recall of the findings from a threshold on; 0 where there are none.

        Two findings like the same true one are both right but find it once.
        """
        kept = [right for score, right in self.said if score >= threshold]
        if not any(kept):
            return 0.0
        precision, recall = np.mean(kept), np.mean([score >= threshold for score in self.found])
        return float(2 * precision * recall / (precision + recall))

    def best_threshold(self) -> float:
        """The threshold with the highest F1; of several the lowest, which hides least."""
        return max(GRID, key=self.f1)


def merged(tallies: Iterable[Tally]) -> Tally:
    """Several labels as one."""
    listed = list(tallies)
    return Tally([one for tally in listed for one in tally.said], [one for t in listed for one in t.found])


def thresholds(tallies: Mapping[str, Tally]) -> tuple[dict[str, float], tuple[str, ...]]:
    """Thresholds of labels of one kind.

    A label with enough examples gets the threshold of its own best F1, the others that of all labels
    together: the scores are calibrated over all of them.

    Returns:
        The thresholds by label, and which labels had too few examples.
    """
    pooled = merged(tallies.values()).best_threshold()
    chosen = {
        label: tally.best_threshold() if tally.is_enough else pooled for label, tally in tallies.items()
    }
    return chosen, tuple(label for label, tally in tallies.items() if not tally.is_enough)
