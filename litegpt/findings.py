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
        score: The model's own probability, 0..1; how far it is calibrated is the model's affair.
        box: Where, in pixels of the original image matrix; ``None`` for a diagnosis of the whole image.
    """

    label: str
    score: float
    box: Box | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """Everything the model says about one image.

    Attributes:
        findings: Findings with boxes first, then diagnoses, each in the vocabulary's order.
        answers: The model's raw answer to each prompt, by the prompt's tag (``identify``, ``vqa``).
        malformed: How many pieces of the answers could not be read as findings and were dropped.
        failure: Why the model could not answer; then there are no findings, and that says nothing.
    """

    findings: tuple[Finding, ...]
    answers: Mapping[str, str] = field(default_factory=dict)
    malformed: int = 0
    failure: str | None = None

    @property
    def has_findings(self) -> bool:
        """Whether anything but "No finding" was said."""
        return any(finding.label != NO_FINDING for finding in self.findings)
