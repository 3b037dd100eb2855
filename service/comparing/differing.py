"""The studies that two models differ on most; only so many are ever held."""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass, field
from typing import Any

from service.comparing.readings import Opinion, StudyReadings


@dataclass(frozen=True, slots=True)
class Difference:
    """What two models differ on in one study.

    Attributes:
        study_id: Of the records.
        study_instance_uid: Its UID.
        accession_number: Its number.
        only_a: Labels that only the first reports, in at least one image.
        only_b: Labels that only the second reports, in at least one image.
        score_difference: Sum of the differences, without sign, of the scores of findings that both have.
    """

    study_id: int
    study_instance_uid: str
    accession_number: str
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    score_difference: float

    @classmethod
    def of(cls, study: StudyReadings) -> Difference:
        """All images of a study together."""
        only_a, only_b, scores = set[str](), set[str](), list[float]()
        for a, b in study.images:
            reported_a, reported_b = _reported(a), _reported(b)
            only_a |= reported_a - reported_b
            only_b |= reported_b - reported_a
            scores += [abs(a[label].score - b[label].score) for label in a.keys() & b.keys()]
        return cls(
            study.study_id,
            study.study_instance_uid,
            study.accession_number,
            tuple(sorted(only_a)),
            tuple(sorted(only_b)),
            math.fsum(scores),
        )

    @property
    def labels(self) -> int:
        """Labels that they differ on."""
        return len({*self.only_a, *self.only_b})

    def as_json(self) -> dict[str, Any]:
        """For a script."""
        return {
            "study_instance_uid": self.study_instance_uid,
            "accession_number": self.accession_number,
            "labels_that_differ": self.labels,
            "only_a": self.only_a,
            "only_b": self.only_b,
            "score_difference": self.score_difference,
        }


@dataclass(slots=True)
class MostDiffering:
    """The first ``limit`` studies by labels that differ, then by scores, then the oldest first."""

    limit: int
    _heap: list[tuple[int, float, int, Difference]] = field(default_factory=list)

    def add(self, study: StudyReadings) -> None:
        """One more study; kept where it is among the first so far."""
        difference = Difference.of(study)
        if not (difference.labels or difference.score_difference) or not self.limit:
            return
        entry = (difference.labels, difference.score_difference, -difference.study_id, difference)
        if len(self._heap) < self.limit:
            heapq.heappush(self._heap, entry)
        else:
            heapq.heappushpop(self._heap, entry)

    def in_order(self) -> list[Difference]:
        """Those that differ most first."""
        return [entry[-1] for entry in sorted(self._heap, key=lambda entry: entry[:3], reverse=True)]


def _reported(opinions: dict[str, Opinion]) -> set[str]:
    return {label for label, opinion in opinions.items() if opinion.reported}
