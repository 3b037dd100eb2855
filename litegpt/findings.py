"""What a reading of one radiograph consists of: the one type from the model to the viewer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from litegpt.boxes import Box
from litegpt.vocabulary import NO_FINDING


@dataclass(frozen=True, slots=True)
class Finding:
    """One statement about one image.

    Attributes:
        label: A label of the vocabulary.
        score: How probable, 0..1. Where the reading is calibrated: that an image has this diagnosis, or that
            there is such a finding in this place; else the model's own probability of the label.
        box: Where, in pixels of the original image matrix; ``None`` for a diagnosis of the whole image.
        box_score: How sure the model is, given the label, that the box is about right (IoU of at least 0.5),
            0..1: ``litegpt.boxes.about_right`` of its probability. Small boxes are hard to place.
        reported: Whether the score reaches the model's threshold for the label.
    """

    label: str
    score: float
    box: Box | None = None
    box_score: float | None = None
    reported: bool = True


@dataclass(frozen=True, slots=True)
class Reading:
    """Everything the model says about one image.

    Attributes:
        findings: Findings with boxes first, then diagnoses, each in the vocabulary's order.
        answers: The model's raw answer to each prompt, by the prompt's tag (``identify``, ``vqa``).
        malformed: How many pieces of the answers could not be read as findings and were dropped.
        failure: Why the model could not answer; then there are no findings, and that says nothing.
        label_scores: How probable each label of the vocabulary is in this image, 0..1; empty where the model
            cannot tell (see ``litegpt.scores``).
        candidates: Where asked for, a box for each local label that was not said but is not quite impossible.
        calibrated: Whether the scores were calibrated on images with known truth.
    """

    findings: tuple[Finding, ...]
    answers: Mapping[str, str] = field(default_factory=dict)
    malformed: int = 0
    failure: str | None = None
    label_scores: Mapping[str, float] = field(default_factory=dict)
    candidates: tuple[Finding, ...] = ()
    calibrated: bool = False

    @property
    def has_findings(self) -> bool:
        """Whether anything but "No finding" was said."""
        return any(finding.label != NO_FINDING for finding in self.findings)
