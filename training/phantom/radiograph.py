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
from training.phantom.anatomy import Plane, Regions, draw_anatomy, inside
from training.phantom.findings import DRAWERS, Mask, Scene, body_extent, rib_curve
from training.phantom.textures import texture

SIDE: Final = 224
"""Side of a phantom in pixels: what the model sees."""

DRAWN_LABELS: Final = tuple(label for label in LOCAL_LABELS if label in DRAWERS)
"""The local findings a phantom can have, in the vocabulary's order."""

TUMOUR_SIDE: Final = 0.105
"""A nodule or mass of a larger mean side (fraction of the picture) is a lung tumour."""

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
    rng: np.random.Generator, *, labels: Collection[str] | None = None, hyperinflated: bool | None = None
) -> Phantom:
    """Draws one phantom.

    Args:
        rng: Where all chance comes from.
        labels: The local findings to draw; by default chosen at random (about a third get none).
        hyperinflated: Whether the lungs are those of COPD; by default one in eight.
    """
    chosen, inflated = _choose(rng)
    wanted = chosen if labels is None else labels
    inflated = inflated if hyperinflated is None else hyperinflated
    anatomy = draw_anatomy(
        rng,
        hyperinflated=inflated,
        large_heart="Cardiomegaly" in wanted,
        large_aorta="Aortic enlargement" in wanted,
    )
    scene = _scene(rng, Regions(anatomy, SIDE))
    findings = _draw_findings(scene, wanted)
    _draw_vessels(scene, faint=inflated)
    _draw_bones(scene)
    pixels = _expose(scene)
    return Phantom(pixels, findings, diagnoses_of(findings, hyperinflated=inflated))


def phantoms(seed: int | Sequence[int]) -> Iterator[Phantom]:
    """Phantoms without end from one seed."""
    rng = np.random.default_rng(seed)
    while True:
        yield phantom(rng)


def numbered_phantom(seed: Sequence[int], index: int, *, drawn_labels: Sequence[str]) -> Phantom:
    """One phantom of a set, from a generator of its own."""
    return phantom(np.random.default_rng((*seed, index)))


def chosen_labels(seed: Sequence[int], index: int, *, drawn_labels: Sequence[str]) -> list[str]:
    """The labels that this phantom is going to be given."""
    return _choose(np.random.default_rng((*seed, index)))[0]


def diagnoses_of(findings: Sequence[DrawnFinding], *, hyperinflated: bool) -> tuple[str, ...]:
    """The global labels: each follows by one rule from what was drawn.

    COPD from hyperinflation, lung tumour from a large nodule or mass, pneumonia from consolidation,
    tuberculosis from a cavity; other disease from any other finding where none of these is; else no finding.
    """
    labels = {finding.label for finding in findings}
    rules = {
        "COPD": hyperinflated,
        "Lung tumor": any(_is_tumour(finding) for finding in findings),
        "Pneumonia": "Consolidation" in labels,
        "Tuberculosis": "Lung cavity" in labels,
    }
    named = tuple(diagnosis for diagnosis, holds in rules.items() if holds)
    return named or (("Other disease",) if labels else (NO_FINDING,))


def _is_tumour(finding: DrawnFinding) -> bool:
    box = finding.box
    mean_side = (box.x_max - box.x_min + box.y_max - box.y_min) / 2
    return finding.label == "Nodule/Mass" and mean_side > TUMOUR_SIDE * SIDE


def _choose(rng: np.random.Generator) -> tuple[list[str], bool]:
    if rng.random() < 0.36:
        return [], rng.random() < 0.08
    count = int(rng.choice([1, 2, 3], p=[0.45, 0.35, 0.2]))
    return [str(label) for label in rng.choice(DRAWN_LABELS, count, replace=False)], rng.random() < 0.15


def _scene(rng: np.random.Generator, regions: Regions) -> Scene:
    """Soft tissue, air, heart, mediastinum, trachea, spine and perhaps a stomach bubble."""
    a, x, y = regions.anatomy, regions.x, regions.y
    darkness = float(rng.uniform(0.34, 0.42))
    soft = np.maximum(regions.heart, regions.knob)
    image: Plane = 0.04 + (0.50 + 0.028 * texture(rng, "cloud", regions.side)) * regions.body
    image -= np.float32(darkness) * regions.air
    image += 0.10 * inside(a.mediastinum - regions.across, 0.01) * regions.body + 0.06 * soft
    image += 0.06 * inside(y - regions.base, 0.01) * regions.body
    image -= 0.06 * np.exp(-((x / 0.016) ** 2)) * inside(0.33 - y, 0.02)
    image += 0.03 * np.exp(-((x / 0.03) ** 2)) * np.cos(y * np.float32(2 * np.pi / 0.055))
    hilum = np.exp(-(((regions.across - a.mediastinum - 0.03) / 0.03) ** 2) - ((y - 0.46) / 0.07) ** 2)
    image += 0.11 * hilum * regions.air
    if rng.random() < 0.5:
        bubble = 1 - np.hypot((x - 0.2) / 0.07, (y - a.diaphragm - 0.07) / 0.035)
        image -= 0.10 * inside(bubble.astype(np.float32), 0.125)
    nothing = np.zeros_like(x)
    return Scene(rng, regions, image, darkness, nothing, nothing.copy(), np.ones_like(x))


def _draw_findings(scene: Scene, wanted: Collection[str]) -> tuple[DrawnFinding, ...]:
    drawn = []
    for label, draw in DRAWERS.items():
        if label not in wanted:
            continue
        for mask in draw(scene):
            box = mask_box(mask)
            if box is None or not _is_large_enough(box):
                continue
            scene.taken.append(body_extent(scene.regions, mask))
            drawn.append(DrawnFinding(label, box, mask))
    drawn.sort(key=lambda finding: (LOCAL_LABELS.index(finding.label), finding.box.y_min, finding.box.x_min))
    return tuple(drawn)


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


def _draw_vessels(scene: Scene, *, faint: bool) -> None:
    regions, rng = scene.regions, scene.rng
    near_hilum = np.exp(-(((regions.across - 0.09) / 0.17) ** 2) - ((regions.y - 0.47) / 0.24) ** 2)
    strength = np.float32(rng.uniform(0.10, 0.16) * (0.6 if faint else 1))
    seen = np.clip(1 - scene.hidden, 0, 1) * regions.air
    scene.brightness += strength * texture(rng, "vessels", regions.side) * near_hilum * seen


def _draw_bones(scene: Scene) -> None:
    """Posterior ribs (which a fracture shifts), faint anterior ribs, clavicles."""
    regions, rng, a = scene.regions, scene.rng, scene.regions.anatomy
    across, y = regions.across, regions.y
    strength, width = np.float32(rng.uniform(0.07, 0.10)), rng.uniform(0.16, 0.20)
    turn = (y - rib_curve(regions, across)) / a.rib_spacing - scene.rib_shift
    cage = inside(across - a.mediastinum, 0.01) * inside(regions.wall - 0.02 - across, 0.01)
    cage *= inside(y - a.apex + 0.02, 0.02) * inside(0.9 - y, 0.03)
    scene.brightness += strength * scene.rib_gain * cage * _stripes(turn, width)
    anterior = (y - rng.uniform(0, 0.09) + 0.35 * across) / (a.rib_spacing * 1.15)
    front = inside(across - a.mediastinum - 0.08, 0.02) * regions.lungs
    scene.brightness += np.float32(0.35) * strength * front * _stripes(anterior, 0.2)
    clavicle = y - (a.apex + 0.07 - 0.22 * (across - 0.04) + rng.uniform(-0.01, 0.01))
    ends = inside(across - 0.04, 0.008) * inside(0.36 - across, 0.02)
    scene.brightness += np.float32(0.09) * np.exp(-((clavicle / 0.014) ** 2)) * ends


def _stripes(turn: Plane, width: float) -> Plane:
    """One bright stripe in the middle of every unit of ``turn``."""
    return np.asarray(np.exp(-(((turn - np.floor(turn) - 0.5) / np.float32(width)) ** 2)))


def _expose(scene: Scene) -> npt.NDArray[np.uint8]:
    """Noise, contrast, brightness, gamma and perhaps a side marker; 8 bits."""
    rng, image = scene.rng, scene.brightness
    image += np.float32(rng.uniform(0.004, 0.02)) * texture(rng, "grain", SIDE)
    image += np.float32(0.012) * texture(rng, "mottle", SIDE)
    image = (image - 0.5) * np.float32(rng.uniform(0.85, 1.15)) + np.float32(0.5 + rng.uniform(-0.05, 0.05))
    image = np.clip(image, 0, 1) ** np.float32(rng.uniform(0.8, 1.25))
    if rng.random() < 0.35:
        _mark_side(rng, image)
    return (image * 255 + 0.5).astype(np.uint8)


def _mark_side(rng: np.random.Generator, image: Plane) -> None:
    """A lead letter L: bright, and no finding."""
    row, column = int(rng.integers(8, 40)), int(rng.integers(8, 20))
    if rng.random() < 0.5:
        column = SIDE - column - 8
    image[row : row + 9, column : column + 2] = 0.95
    image[row + 7 : row + 9, column : column + 6] = 0.95
