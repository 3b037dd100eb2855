"""A model's operating point: what its scores mean, and from which score on a finding is reported.

A model's own probabilities are not how often it is right. A calibration turns them into that, as it was seen
on a validation split; thresholds stand on the calibrated scores. Both belong to one version of a model and
are kept in its ``config.json``; ``litegpt-train calibrate`` measures them. Torch-free.
"""

from __future__ import annotations

import dataclasses
import itertools
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from litegpt.errors import ModelError
from litegpt.findings import Finding, Reading
from litegpt.vocabulary import LABELS, LOCAL_LABELS, NO_FINDING


@dataclass(frozen=True, slots=True)
class Calibration:
    """A map that never falls, from a raw score to how often such a score was right.

    Attributes:
        method: How it was fitted. The map itself is always its breakpoints.
        raw: The breakpoints, ascending, 0..1; between them the map is linear, beyond them constant.
        calibrated: Its values there, 0..1.
        examples: How many scores it was fitted to.
        right: How many of them were right.
        ece_before: Expected calibration error of the raw scores, in ten bins of equal count.
        ece_after: The same of the calibrated ones, each by a map that had not seen its image.

    Raises:
        ModelError: If that is no such map, or the figures are impossible.
    """

    method: str
    raw: tuple[float, ...]
    calibrated: tuple[float, ...]
    examples: int
    right: int
    ece_before: float
    ece_after: float

    def __post_init__(self) -> None:
        if not self.raw or len(self.raw) != len(self.calibrated):
            raise ModelError("a calibration needs as many values as breakpoints, and at least one")
        _require_probabilities(
            "a calibration", (*self.raw, *self.calibrated, self.ece_before, self.ece_after)
        )
        if any(one >= following for one, following in itertools.pairwise(self.raw)):
            raise ModelError("the breakpoints of a calibration must ascend")
        if any(one > following for one, following in itertools.pairwise(self.calibrated)):
            raise ModelError("a calibration must not fall where the raw score rises")
        if not 0 <= self.right <= self.examples:
            raise ModelError(f"of {self.examples} scores {self.right} cannot have been right")

    def __call__(self, score: float) -> float:
        """The calibrated score."""
        place = bisect_right(self.raw, score)
        if place in (0, len(self.raw)):
            return self.calibrated[min(place, len(self.raw) - 1)]
        low, high = self.raw[place - 1 : place + 1]
        below, above = self.calibrated[place - 1 : place + 1]
        # The share first: a slope between breakpoints that almost touch would be infinite.
        return below + (score - low) / (high - low) * (above - below)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Calibration:
        """Reads what ``dataclasses.asdict`` has written.

        Raises:
            KeyError, TypeError, ValueError: If something is missing or of another kind.
            ModelError: If the values make no sense.
        """
        return cls(
            method=str(values["method"]),
            raw=tuple(float(score) for score in values["raw"]),
            calibrated=tuple(float(score) for score in values["calibrated"]),
            examples=int(values["examples"]),
            right=int(values["right"]),
            ece_before=float(values["ece_before"]),
            ece_after=float(values["ece_after"]),
        )


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """Calibrations and thresholds of one version of a model.

    Attributes:
        version: The model's version that they were measured for.
        measured_on: The validation split in words, such as ``500 phantoms of seed 4711``.
        images: How many images it had.
        findings: For findings with boxes: from ``raw_score`` to the probability that the image has a finding
            of this label there (IoU of at least 0.5).
        diagnoses: From the probability of a diagnosis to the probability that the image has it.
        local_labels: The same for the local labels, wherever they may be; None where the model gave no
            ``label_scores``.
        thresholds: By label, on the calibrated score of a finding; a label without one is always reported.
            "No finding" never has one: where it is left out a report has nothing else to say.
        pooled: Labels that had too few examples of their own and got the threshold of all labels of their
            kind together.

    Raises:
        ModelError: If a label is unknown, or a threshold not within 0..1.
    """

    version: str
    measured_on: str
    images: int
    findings: Calibration
    diagnoses: Calibration
    local_labels: Calibration | None = None
    thresholds: Mapping[str, float] = dataclasses.field(default_factory=dict)
    pooled: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for label in (*self.thresholds, *self.pooled):
            if label not in LABELS:
                raise ModelError(f"{label!r} has a threshold but is no label")
        if NO_FINDING in self.thresholds:
            raise ModelError(f'"{NO_FINDING}" cannot have a threshold: without it there is nothing to report')
        _require_probabilities("a threshold", self.thresholds.values())

    def apply(self, reading: Reading) -> Reading:
        """Calibrates a raw reading and says which of its findings are reported.

        Findings stay in the reading whatever their score. Where all but "No finding" fall below their
        thresholds a report says that nothing was found. Candidates go through the same maps, although those
        were fitted to what was said. A label score that no calibration was measured for is left out.

        Raises:
            ValueError: If the reading has been calibrated before.
        """
        if reading.calibrated:
            raise ValueError("this reading is calibrated already")
        label_scores = {}
        for label, score in reading.label_scores.items():
            calibration = self.local_labels if label in LOCAL_LABELS else self.diagnoses
            if calibration is not None:
                label_scores[label] = calibration(score)
        return dataclasses.replace(
            reading,
            findings=tuple(self._applied(finding, reading) for finding in reading.findings),
            candidates=tuple(self._applied(finding, reading) for finding in reading.candidates),
            label_scores=label_scores,
            calibrated=True,
        )

    def _applied(self, finding: Finding, reading: Reading) -> Finding:
        calibration = self.diagnoses if finding.box is None else self.findings
        score = calibration(raw_score(finding, reading))
        return dataclasses.replace(
            finding, score=score, reported=score >= self.thresholds.get(finding.label, 0.0)
        )

    def to_json(self) -> dict[str, Any]:
        """What ``config.json`` holds under ``operating_point``."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> OperatingPoint:
        """Reads what ``to_json`` has written.

        Raises:
            ModelError: If something is missing or makes no sense.
        """
        try:
            local_labels = values["local_labels"]
            return cls(
                version=str(values["version"]),
                measured_on=str(values["measured_on"]),
                images=int(values["images"]),
                findings=Calibration.from_json(values["findings"]),
                diagnoses=Calibration.from_json(values["diagnoses"]),
                local_labels=None if local_labels is None else Calibration.from_json(local_labels),
                thresholds={label: float(score) for label, score in values["thresholds"].items()},
                pooled=tuple(values["pooled"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelError(f"operating_point cannot be read: {type(error).__name__} {error}") from None


def raw_score(finding: Finding, reading: Reading) -> float:
    """The score of the model's own that a finding's calibration starts from.

    With a box: the score of the label times that of the box, where the model tells it. A diagnosis: its
    probability in the whole image, where the model tells it, so that the finding and ``label_scores`` agree.
    """
    if finding.box is None:
        return reading.label_scores.get(finding.label, finding.score)
    return finding.score * (1.0 if finding.box_score is None else finding.box_score)


def _require_probabilities(what: str, values: Iterable[float]) -> None:
    for value in values:
        if not 0 <= value <= 1:  # also where it is no number
            raise ModelError(f"{what} lies within 0 and 1, not at {value}")
