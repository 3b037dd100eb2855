"""How each finding looks on a phantom: one function a finding, each giving the masks of what it drew.

A drawer changes the picture's brightness (``Scene.brightness``) and returns the masks from which the boxes
follow, so a box is never a matter of opinion. Drawn so far are 12 of VinDr-CXR's 22 local findings. How they
look follows the findings' radiographic descriptions only as far as needed to tell them apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from training.phantom.anatomy import Plane, Regions, inside
from training.phantom.textures import texture

Mask = npt.NDArray[np.bool_]
Extent = tuple[float, float, float, float]


@dataclass(slots=True)
class Scene:
    """A phantom while it is being drawn.

    Attributes:
        regions: Where the anatomy lies.
        brightness: The picture, (side, side), about 0..1.
        darkness: By how much air is darker than soft tissue.
        hidden: 0..1, where vessels cannot be seen any more.
        rib_shift, rib_gain: Local displacement (in rib spacings) and brightness of the ribs.
        taken: Extents of what was drawn, in body axes; later findings keep off them.
    """

    rng: np.random.Generator
    regions: Regions
    brightness: Plane
    darkness: float
    hidden: Plane
    rib_shift: Plane
    rib_gain: Plane
    taken: list[Extent] = field(default_factory=list)

    def is_free(self, extent: Extent, margin: float = 0.012) -> bool:
        """Whether nothing drawn so far touches the extent."""
        return not any(
            extent[0] - margin < other[2]
            and other[0] < extent[2] + margin
            and extent[1] - margin < other[3]
            and other[1] < extent[3] + margin
            for other in self.taken
        )

    def side(self) -> npt.NDArray[np.bool_]:
        """The half of the picture of a lung chosen at random."""
        return self.regions.left if self.rng.random() < 0.5 else ~self.regions.left

    def place(
        self, half_width: float, half_height: float, heights: tuple[float, float], fit: float = 1.0
    ) -> tuple[float, float] | None:
        """A free centre in a lung for something of this size, off the heart; None after many trials.

        Args:
            half_width: Half the width of what is to be placed.
            half_height: Half its height.
            heights: Range of the centre between apex (0) and diaphragm (1).
            fit: Which part of the half width has to lie within the lung.
        """
        a = self.regions.anatomy
        for _ in range(24):
            sign = 1 if self.rng.random() < 0.5 else -1
            height = self.rng.uniform(*heights)
            y = a.apex + height * (a.diaphragm - a.apex)
            nearest = a.mediastinum + 0.025 + half_width * fit
            farthest = float(a.outer(height)) - 0.015 - half_width * fit
            chord = 1 - ((y - a.heart_y) / a.heart_height) ** 2
            if sign > 0 and chord > 0:
                nearest = max(nearest, a.heart_x + a.heart_width * chord**0.5 + 0.01 + half_width * fit)
            if nearest >= farthest:
                continue
            x = sign * self.rng.uniform(nearest, farthest)
            if self.is_free((x - half_width, y - half_height, x + half_width, y + half_height)):
                return x, y
        return None


Drawer = Callable[[Scene], list[Mask]]


def draw_cardiomegaly(scene: Scene) -> list[Mask]:
    """The heart itself; its size was drawn with the anatomy."""
    return [scene.regions.heart > 0.5]


def draw_aortic_enlargement(scene: Scene) -> list[Mask]:
    """The aortic knob itself; its size was drawn with the anatomy."""
    return [scene.regions.knob > 0.5]


def draw_pleural_effusion(scene: Scene) -> list[Mask]:
    """Fluid in one or both bases, its surface rising to the chest wall (meniscus)."""
    regions, rng = scene.regions, scene.rng
    sides = [regions.left, ~regions.left] if rng.random() < 0.2 else [scene.side()]
    masks = []
    for side in sides:
        to_wall = np.clip((regions.across - regions.inner) / (regions.outer - regions.inner + 1e-3), 0, 1)
        surface = regions.anatomy.diaphragm + 0.03 - rng.uniform(0.02, 0.16) - 0.12 * to_wall**2
        fluid = inside(regions.y - surface.astype(np.float32), 0.008) * regions.air * side
        scene.brightness += np.float32(scene.darkness + rng.uniform(0.04, 0.09)) * fluid
        scene.hidden += fluid
        masks.append((fluid > 0.5) & (regions.lungs > 0.5))
    return masks


def draw_pneumothorax(scene: Scene) -> list[Mask]:
    """Black, vessel-free air between the chest wall and a thin white pleural line."""
    regions, rng = scene.regions, scene.rng
    side = scene.side()
    lowest, depth = rng.uniform(0.45, 0.75), rng.uniform(0.07, 0.12)
    top = regions.anatomy.apex + rng.uniform(0.05, 0.10)
    narrowing = np.clip(1.25 - np.clip(regions.height, 0, 1) / lowest, 0, None)
    pleura = regions.outer - np.float32(depth) * narrowing
    beyond = np.maximum(inside(regions.across - pleura, 0.004), inside(top - regions.y, 0.004))
    air = beyond * regions.lungs * side * inside(lowest - regions.height, 0.01)
    scene.brightness -= np.float32(0.10) * air
    line = 4 * air * (1 - air) * (regions.lungs > 0.6) * inside(lowest - regions.height - 0.02, 0.01)
    scene.brightness += np.float32(0.11) * line
    scene.hidden += air
    return [air > 0.5]


def draw_pleural_thickening(scene: Scene) -> list[Mask]:
    """A bright band along the chest wall."""
    regions, rng = scene.regions, scene.rng
    for _ in range(10):
        sign = 1 if rng.random() < 0.5 else -1
        start = rng.uniform(0.12, 0.55)
        end, thickness = start + rng.uniform(0.2, 0.38), rng.uniform(0.022, 0.036)
        band = (
            regions.lungs
            * (regions.left if sign > 0 else ~regions.left)
            * inside(regions.across - regions.outer + thickness, 0.004)
            * inside(regions.height - start, 0.015)
            * inside(end - regions.height, 0.015)
        )
        mask = band > 0.4
        if mask.any() and scene.is_free(body_extent(regions, mask)):
            scene.brightness += np.float32(rng.uniform(0.28, 0.36)) * band
            return [mask]
    return []


def draw_consolidation(scene: Scene) -> list[Mask]:
    """A cloudy white patch with a ragged border; vessels drown in it."""
    rng = scene.rng
    half_width, half_height = rng.uniform(0.06, 0.11), rng.uniform(0.06, 0.12)
    centre = scene.place(half_width, half_height, (0.25, 0.85), fit=0.7)
    if centre is None:
        return []
    regions = scene.regions
    ragged = np.float32(0.10) * texture(rng, "mottle", regions.side)
    radius = np.hypot((regions.x - centre[0]) / half_width, (regions.y - centre[1]) / half_height) + ragged
    patch = inside((0.92 - radius).astype(np.float32), 0.10) * regions.air
    mottled = 1 + 0.12 * texture(rng, "mottle", regions.side)
    scene.brightness += np.float32(rng.uniform(0.20, 0.28)) * patch * mottled
    scene.hidden += np.float32(0.7) * patch
    return [patch > 0.5]


def draw_pulmonary_fibrosis(scene: Scene) -> list[Mask]:
    """A region of fine white network."""
    rng = scene.rng
    half_width, half_height = rng.uniform(0.06, 0.11), rng.uniform(0.08, 0.15)
    centre = scene.place(half_width, half_height, (0.2, 0.85), fit=0.75)
    if centre is None:
        return []
    regions = scene.regions
    radius = np.hypot((regions.x - centre[0]) / half_width, (regions.y - centre[1]) / half_height)
    region = inside((1 - radius).astype(np.float32), 0.06) * regions.air
    network = texture(rng, "reticulum", regions.side) - np.float32(0.12)
    scene.brightness += np.float32(rng.uniform(0.22, 0.30)) * region * network
    scene.hidden += region
    return [region > 0.5]


def draw_lung_cavity(scene: Scene) -> list[Mask]:
    """A white ring around air, in the upper half of the lung."""
    rng = scene.rng
    radius, wall = rng.uniform(0.036, 0.068), rng.uniform(0.010, 0.016)
    centre = scene.place(radius, radius, (0.12, 0.6))
    if centre is None:
        return []
    regions = scene.regions
    distance = np.hypot(regions.x - centre[0], (regions.y - centre[1]) / rng.uniform(0.9, 1.1))
    ring = np.exp(-(((distance - radius + wall) / wall) ** 2))
    hollow = inside((radius - 2 * wall - distance).astype(np.float32), 0.005)
    scene.brightness += np.float32(rng.uniform(0.22, 0.30)) * ring - np.float32(0.06) * hollow
    scene.hidden += distance < radius
    return [distance < radius]


def draw_nodule_or_mass(scene: Scene) -> list[Mask]:
    """One or two round, solid shadows; the large ones count as tumours."""
    rng, regions = scene.rng, scene.regions
    masks = []
    for _ in range(2 if rng.random() < 0.2 else 1):
        radius = rng.uniform(0.026, 0.048) if rng.random() < 0.5 else rng.uniform(0.062, 0.09)
        centre = scene.place(radius, radius, (0.15, 0.85))
        if centre is None:
            continue
        lobed = 1 + 0.03 * texture(rng, "mottle", regions.side)
        solid = inside((radius - regions.distance(*centre) * lobed).astype(np.float32), 0.005)
        scene.brightness += np.float32(rng.uniform(0.20, 0.30)) * solid
        masks.append(solid > 0.5)
        scene.taken.append(body_extent(regions, masks[-1]))
    return masks


def draw_atelectasis(scene: Scene) -> list[Mask]:
    """A plate: one bright, nearly level band in the lower lung."""
    rng = scene.rng
    half_length, half_thickness = rng.uniform(0.06, 0.10), rng.uniform(0.010, 0.015)
    centre = scene.place(half_length, 0.02, (0.45, 0.88), fit=0.8)
    if centre is None:
        return []
    along, athwart = scene.regions.turned(*centre, rng.uniform(-0.22, 0.22))
    plate = np.exp(-((athwart / half_thickness) ** 2)) * inside(half_length - np.abs(along))
    scene.brightness += np.float32(rng.uniform(0.26, 0.34)) * plate
    return [plate > 0.35]


def draw_calcification(scene: Scene) -> list[Mask]:
    """A cluster of small, very bright grains."""
    rng, regions = scene.rng, scene.regions
    spread = rng.uniform(0.024, 0.04)
    centre = scene.place(spread, spread, (0.15, 0.85))
    if centre is None:
        return []
    count = int(rng.integers(5, 9))
    angles = rng.permutation(count) * 2 * np.pi / count + rng.uniform(0, 2 * np.pi)
    radii = spread * np.sqrt(rng.uniform(0.2, 1, count))
    grains = np.zeros_like(regions.x)
    for angle, radius in zip(angles, radii, strict=True):
        distance = regions.distance(centre[0] + radius * np.cos(angle), centre[1] + radius * np.sin(angle))
        np.maximum(grains, np.exp(-((distance / rng.uniform(0.0055, 0.0085)) ** 2)), out=grains)
    scene.brightness += np.float32(rng.uniform(0.42, 0.5)) * grains
    return [grains > 0.3]


def draw_rib_fracture(scene: Scene) -> list[Mask]:
    """A rib broken in two whose ends no longer meet."""
    rng, regions, a = scene.rng, scene.regions, scene.regions.anatomy
    half_width, half_height = 0.045, a.rib_spacing * 0.62
    for _ in range(20):
        sign = 1 if rng.random() < 0.5 else -1
        at, rib = rng.uniform(0.19, a.lung_width - 0.05), int(rng.integers(2, 8))
        y = float(rib_curve(regions, np.float32(at))) + (rib + 0.5) * a.rib_spacing
        beside_heart = sign < 0 or (
            ((at - a.heart_x) / a.heart_width) ** 2 + ((y - a.heart_y) / a.heart_height) ** 2 > 1.5
        )
        extent = (sign * at - half_width, y - half_height, sign * at + half_width, y + half_height)
        in_lung = max(a.apex + 0.05, 0.12) < y < a.diaphragm - 0.06
        if not (beside_heart and in_lung and scene.is_free(extent)):
            continue
        along = sign * regions.x - np.float32(at)
        line = rib_curve(regions, regions.across) + np.float32((rib + 0.5) * a.rib_spacing)
        here = inside(half_width - np.abs(along), 0.003) * inside(
            0.6 * a.rib_spacing - np.abs(regions.y - line), 0.003
        )
        scene.rib_shift += np.where(along > 0, np.float32(0.30), np.float32(-0.12)) * here
        gap = np.exp(-((along / 0.006) ** 2))
        scene.rib_gain *= (1 + 1.6 * here) * (1 - 0.9 * here * gap)
        return [(np.abs(along) < half_width) & (np.abs(regions.y - y) < half_height)]
    return []


def rib_curve(regions: Regions, across: Plane | np.float32) -> Plane:
    """How far down the posterior ribs have come at a distance from the midline."""
    return np.asarray(regions.anatomy.rib_phase + 0.10 * across + 0.65 * across * across, np.float32)


def body_extent(regions: Regions, mask: Mask) -> Extent:
    """Smallest rectangle of the body axes that holds a mask."""
    x, y = regions.x[mask], regions.y[mask]
    return float(x.min()), float(y.min()), float(x.max()), float(y.max())


DRAWERS: Final[dict[str, Drawer]] = {
    "Cardiomegaly": draw_cardiomegaly,
    "Aortic enlargement": draw_aortic_enlargement,
    "Pleural effusion": draw_pleural_effusion,
    "Pneumothorax": draw_pneumothorax,
    "Pleural thickening": draw_pleural_thickening,
    "Consolidation": draw_consolidation,
    "Pulmonary fibrosis": draw_pulmonary_fibrosis,
    "Lung cavity": draw_lung_cavity,
    "Nodule/Mass": draw_nodule_or_mass,
    "Atelectasis": draw_atelectasis,
    "Calcification": draw_calcification,
    "Rib fracture": draw_rib_fracture,
}
"""In drawing order: what is large or bound to its place first, what finds room anywhere last."""
