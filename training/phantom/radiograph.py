"""One phantom: draw a chest, draw findings into it, expose it.

The same generator state always gives the same phantom: ``phantom(np.random.default_rng(seed))``. Global
labels follow from what was drawn (``diagnoses_of``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from litegpt.boxes import Box
from litegpt.vocabulary import LOCAL_LABELS, NO_FINDING
from training.phantom.anatomy import Regions, draw_anatomy
from training.phantom.chest import chest_scene, draw_bones, draw_vessels, exposed
from training.phantom.choice import DRAWN_LABELS, TWELVE, choose_findings
from training.phantom.findings.drawers import DRAWERS
from training.phantom.findings.scene import Drawer, Mask, Scene, body_extent

SIDE: Final = 224
"""Side of a phantom in pixels: what the model sees."""

TUMOUR_SIDE: Final = 0.105
"""A nodule or mass of a larger mean side (fraction of the picture) is a lung tumour."""

_ATTEMPTS: Final = 8
"""How often a finding is tried that finds no room beside the others."""

_SMALLEST_WIDTH: Final = 0.02
_SMALLEST_HEIGHT: Final = 0.012


@dataclass(frozen=True, slots=True)
class DrawnFinding:
    """What was drawn and where.

    Attributes:
        label: A label of the vocabulary.
        box: The mask's bounding rectangle in pixels of the phantom.
        mask: (rows, columns), True where the finding is.
    """

    label: str
    box: Box
    mask: Mask


@dataclass(frozen=True, slots=True)
class Phantom:
    """A synthetic radiograph with its truth.

    Attributes:
        pixels: (SIDE, SIDE) uint8, 255 = brightest (bone, fluid), as displayed.
        findings: What was drawn, in the vocabulary's order, then from top to bottom.
        diagnoses: The global labels that follow, in the vocabulary's order.
    """

    pixels: npt.NDArray[np.uint8]
    findings: tuple[DrawnFinding, ...]
    diagnoses: tuple[str, ...]


def phantom(
    rng: np.random.Generator,
    *,
    labels: Collection[str] | None = None,
    hyperinflated: bool | None = None,
    drawn_labels: Sequence[str] = DRAWN_LABELS,
) -> Phantom:
    """Draws one phantom.

    Args:
        rng: Where all chance comes from.
        labels: The local findings to draw; by default chosen at random (about a third get none).
        hyperinflated: Whether the lungs are those of COPD; by default one in eight.
        drawn_labels: What to choose from where ``labels`` leaves it to chance.

    Raises:
        ValueError: For a label that is no local finding.
    """
    # Findings that are given do not move what else chance decides, whatever there is to choose from
    chosen, inflated = choose_findings(rng, drawn_labels if labels is None else TWELVE)
    wanted = chosen if labels is None else labels
    if unknown := [label for label in wanted if label not in DRAWERS]:
        raise ValueError(f"no local finding: {', '.join(unknown)}")
    inflated = inflated if hyperinflated is None else hyperinflated
    anatomy = draw_anatomy(
        rng,
        hyperinflated=inflated,
        large_heart="Cardiomegaly" in wanted,
        large_aorta="Aortic enlargement" in wanted,
        shifted="Mediastinal shift" in wanted,
    )
    scene = chest_scene(rng, Regions(anatomy, SIDE))
    findings = _draw_findings(scene, wanted)
    draw_vessels(scene, faint=inflated)
    draw_bones(scene)
    boxes = [(finding.label, finding.box) for finding in findings]
    return Phantom(exposed(scene), findings, diagnoses_of(boxes, hyperinflated=inflated))


def phantoms(seed: int | Sequence[int], *, drawn_labels: Sequence[str] = DRAWN_LABELS) -> Iterator[Phantom]:
    """Phantoms without end from one seed, each from where the one before left chance."""
    rng = np.random.default_rng(seed)
    while True:
        yield phantom(rng, drawn_labels=drawn_labels)


def numbered_phantom(
    seed: Sequence[int], index: int, *, drawn_labels: Sequence[str] = DRAWN_LABELS
) -> Phantom:
    """One phantom of a set, from a generator of its own: any can be drawn without those before it."""
    return phantom(np.random.default_rng((*seed, index)), drawn_labels=drawn_labels)


def chosen_labels(
    seed: Sequence[int], index: int, *, drawn_labels: Sequence[str] = DRAWN_LABELS
) -> list[str]:
    """The labels that this phantom is going to be given, without drawing it."""
    return choose_findings(np.random.default_rng((*seed, index)), drawn_labels)[0]


def diagnoses_of(findings: Collection[tuple[str, Box]], *, hyperinflated: bool) -> tuple[str, ...]:
    """The global labels: each follows by one rule from what is there.

    COPD from hyperinflation, lung tumour from a large nodule or mass, pneumonia from consolidation or
    infiltration, tuberculosis from a cavity; other disease from any other finding where none of these is;
    else no finding.

    Args:
        findings: Local labels with their boxes in pixels of the phantom.
        hyperinflated: Whether the lungs are.

    Returns:
        Labels in the vocabulary's order; "No finding" only where there is nothing at all.
    """
    labels = {label for label, _ in findings}
    rules = {
        "COPD": hyperinflated,
        "Lung tumor": any(_is_tumour(label, box) for label, box in findings),
        "Pneumonia": not labels.isdisjoint(("Consolidation", "Infiltration")),
        "Tuberculosis": "Lung cavity" in labels,
    }
    named = tuple(diagnosis for diagnosis, holds in rules.items() if holds)
    return named or (("Other disease",) if labels else (NO_FINDING,))


def _is_tumour(label: str, box: Box) -> bool:
    mean_side = (box.x_max - box.x_min + box.y_max - box.y_min) / 2
    return label == "Nodule/Mass" and mean_side > TUMOUR_SIDE * SIDE


def _draw_findings(scene: Scene, wanted: Collection[str]) -> tuple[DrawnFinding, ...]:
    # Phantoms of the first twelve stay as they were, with one attempt each
    attempts = 1 if set(wanted) <= set(TWELVE) else _ATTEMPTS
    drawn = []
    for label, draw in DRAWERS.items():
        if label not in wanted:
            continue
        for mask in _drawn(draw, scene, attempts):
            box = mask_box(mask)
            if box is None or not _is_large_enough(box):
                continue
            scene.taken.append(body_extent(scene.regions, mask))
            drawn.append(DrawnFinding(label, box, mask))
    drawn.sort(key=lambda finding: (LOCAL_LABELS.index(finding.label), finding.box.y_min, finding.box.x_min))
    return tuple(drawn)


def _drawn(draw: Drawer, scene: Scene, attempts: int) -> list[Mask]:
    """What a drawer drew; it draws nothing where it finds no room, and may look again."""
    for _ in range(attempts):
        if masks := draw(scene):
            return masks
    return []


def mask_box(mask: Mask) -> Box | None:
    """The bounding rectangle of a mask, pixel edges; None for an empty mask."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    return Box(float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))


def _is_large_enough(box: Box) -> bool:
    return (
        box.x_max - box.x_min >= _SMALLEST_WIDTH * SIDE and box.y_max - box.y_min >= _SMALLEST_HEIGHT * SIDE
    )
