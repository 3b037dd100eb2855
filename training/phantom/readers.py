"""Three simulated readers of a phantom, who disagree as radiologists do.

A reader misses findings, the small and the faint more often; draws boxes a little off; takes one finding for
one that looks like it; and now and then sees what is not there. Global labels follow by the same rules as the
truth's, from what this reader saw. VinDr-CXR's train split has three such readings an image.

The rates are chosen, not measured: so that two readers' boxes of the same finding have a mean IoU of about
0.75 and three of four findings are seen by all three.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from litegpt.boxes import Box
from training.phantom.choice import DRAWN_LABELS
from training.phantom.radiograph import SIDE, DrawnFinding, Phantom, diagnoses_of

LOOK_ALIKES: Final[dict[str, tuple[str, ...]]] = {
    "Aortic enlargement": ("Enlarged PA",),
    "Atelectasis": ("Pleural thickening",),
    "Consolidation": ("Lung Opacity", "Infiltration"),
    "Edema": ("Lung Opacity",),
    "Emphysema": ("Lung cyst", "Pneumothorax"),
    "Enlarged PA": ("Aortic enlargement", "Nodule/Mass"),
    "ILD": ("Pulmonary fibrosis",),
    "Infiltration": ("Consolidation", "Lung Opacity"),
    "Lung Opacity": ("Consolidation", "Infiltration"),
    "Lung cavity": ("Lung cyst",),
    "Lung cyst": ("Lung cavity", "Emphysema"),
    "Nodule/Mass": ("Consolidation",),
    "Pleural thickening": ("Atelectasis",),
    "Pneumothorax": ("Emphysema",),
    "Pulmonary fibrosis": ("ILD",),
}
"""What each finding may be taken for; the others are never mistaken."""

IMAGINED: Final = ("Atelectasis", "Calcification", "Infiltration", "Nodule/Mass", "Rib fracture")
"""What readers see that is not there; nothing, where they know none of these."""


@dataclass(frozen=True, slots=True)
class Reader:
    """How one reader reads; all chances are between 0 and 1.

    Attributes:
        name: As VinDr-CXR names its readers.
        misses: Chance to miss any finding.
        misses_small, misses_faint: What comes on top for a tiny one, and for one without contrast.
        box_error: Standard deviation of each edge, as a part of the box's side.
        confuses: Chance to take a finding for one that looks like it.
        imagines: Chance to see, in an image, something that is not there.
        misses_copd: Chance to miss hyperinflation.
    """

    name: str
    misses: float
    misses_small: float
    misses_faint: float
    box_error: float
    confuses: float
    imagines: float
    misses_copd: float


READERS: Final = (
    Reader("R1", 0.02, 0.14, 0.14, 0.04, 0.02, 0.01, 0.06),
    Reader("R2", 0.04, 0.24, 0.24, 0.06, 0.04, 0.03, 0.12),
    Reader("R3", 0.07, 0.36, 0.36, 0.08, 0.07, 0.05, 0.20),
)
"""A careful one, one in between, and one in a hurry."""

_SMALL: Final = 0.09
"""Mean side (fraction of the picture) by which smallness counts a good third."""

_FAINT: Final = 0.08
"""Contrast (fraction of white) by which faintness counts a good third."""

_SURROUNDINGS: Final = 6
"""Pixels around a finding's box that it is compared with."""

_SMALLEST_SIDE: Final = 3.0


@dataclass(frozen=True, slots=True)
class SeenFinding:
    """A finding as a reader gives it.

    Attributes:
        label: What the reader calls it.
        box: In pixels of the phantom.
        drawn: The number of the drawn finding it is; None for what is not there.
    """

    label: str
    box: Box
    drawn: int | None


@dataclass(frozen=True, slots=True)
class ReadingOfOne:
    """What one reader says of one phantom; ``diagnoses`` follow from its findings."""

    reader: str
    findings: tuple[SeenFinding, ...]
    diagnoses: tuple[str, ...]


def read_by_all(
    phantom: Phantom,
    rng: np.random.Generator,
    *,
    readers: Sequence[Reader] = READERS,
    known_labels: Sequence[str] = DRAWN_LABELS,
) -> tuple[ReadingOfOne, ...]:
    """Has every reader read a phantom.

    Args:
        phantom: What they look at.
        rng: Where all chance comes from.
        readers: Who.
        known_labels: The labels that they use.
    """
    hardness = [_hardness(phantom, finding) for finding in phantom.findings]
    return tuple(_read(phantom, hardness, reader, known_labels, rng) for reader in readers)


def _read(
    phantom: Phantom,
    hardness: Sequence[tuple[float, float]],
    reader: Reader,
    known_labels: Sequence[str],
    rng: np.random.Generator,
) -> ReadingOfOne:
    seen = []
    for number, (finding, (smallness, faintness)) in enumerate(zip(phantom.findings, hardness, strict=True)):
        missed = reader.misses + reader.misses_small * smallness + reader.misses_faint * faintness
        if rng.random() >= missed:
            label = _called(finding.label, reader, known_labels, rng)
            seen.append(SeenFinding(label, _placed(finding.box, reader.box_error, rng), number))
    imaginable = [label for label in IMAGINED if label in known_labels]
    if rng.random() < reader.imagines and imaginable:
        seen.append(_imagined(imaginable, rng))
    hyperinflated = "COPD" in phantom.diagnoses and rng.random() >= reader.misses_copd
    boxes = [(finding.label, finding.box) for finding in seen]
    return ReadingOfOne(reader.name, tuple(seen), diagnoses_of(boxes, hyperinflated=hyperinflated))


def _hardness(phantom: Phantom, finding: DrawnFinding) -> tuple[float, float]:
    """How small and how faint a finding is, each 0 (not at all) to 1."""
    box = finding.box
    mean_side = (box.x_max - box.x_min + box.y_max - box.y_min) / 2 / SIDE
    return _decay(mean_side / _SMALL), _decay(_contrast(phantom, finding) / _FAINT)


def _decay(times: float) -> float:
    return float(np.exp(-(times**2)))


def _contrast(phantom: Phantom, finding: DrawnFinding) -> float:
    """How much a finding differs from its surroundings, in brightness and in unrest; 1: black and white."""
    box = finding.box.clipped(SIDE, SIDE)
    rows = slice(max(0, int(box.y_min) - _SURROUNDINGS), int(box.y_max) + _SURROUNDINGS)
    columns = slice(max(0, int(box.x_min) - _SURROUNDINGS), int(box.x_max) + _SURROUNDINGS)
    # Both (rows, columns) of the box and its surroundings
    pixels, mask = phantom.pixels[rows, columns].astype(np.float32) / 255, finding.mask[rows, columns]
    if mask.all():
        return 1.0
    there, around = pixels[mask], pixels[~mask]
    return float(abs(there.mean() - around.mean()) + abs(there.std() - around.std()))


def _called(label: str, reader: Reader, known_labels: Sequence[str], rng: np.random.Generator) -> str:
    others = [other for other in LOOK_ALIKES.get(label, ()) if other in known_labels]
    if others and rng.random() < reader.confuses:
        return others[int(rng.integers(len(others)))]
    return label


def _placed(box: Box, error: float, rng: np.random.Generator) -> Box:
    """The box with each edge a little off; at least ``_SMALLEST_SIDE`` wide and high, inside the picture."""
    x_min, x_max = _interval(box.x_min, box.x_max, error, rng)
    y_min, y_max = _interval(box.y_min, box.y_max, error, rng)
    return Box(x_min, y_min, x_max, y_max)


def _interval(low: float, high: float, error: float, rng: np.random.Generator) -> tuple[float, float]:
    # Nobody's hand is steadier than half a pixel
    spread = max(0.5, error * (high - low))
    first, last = low + rng.normal(0, spread), high + rng.normal(0, spread)
    centre, half = (first + last) / 2, max(last - first, _SMALLEST_SIDE) / 2
    start = float(np.clip(centre - half, 0, SIDE - _SMALLEST_SIDE))
    return start, float(np.clip(centre + half, start + _SMALLEST_SIDE, SIDE))


def _imagined(labels: Sequence[str], rng: np.random.Generator) -> SeenFinding:
    width, height = rng.uniform(0.06, 0.16, 2) * SIDE
    x, y = rng.uniform((0.15, 0.2), (0.85, 0.75)) * SIDE
    box = Box(x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    return SeenFinding(labels[int(rng.integers(len(labels)))], box.clipped(SIDE, SIDE), None)
