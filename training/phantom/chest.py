"""A chest without its findings: soft tissue and air first, vessels and bones over them, then the exposure."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from training.phantom.anatomy import Plane, Regions, inside
from training.phantom.findings.bones import clavicle_curve, rib_curve
from training.phantom.findings.scene import Scene
from training.phantom.textures import texture


def chest_scene(rng: np.random.Generator, regions: Regions) -> Scene:
    """Soft tissue, air, heart, mediastinum, trachea, spine and perhaps a stomach bubble."""
    a, x, y = regions.anatomy, regions.x, regions.y
    darkness = float(rng.uniform(0.34, 0.42))
    soft = np.maximum(regions.heart, regions.knob)
    image: Plane = 0.04 + (0.50 + 0.028 * texture(rng, "cloud", regions.side)) * regions.body
    image -= np.float32(darkness) * regions.air
    image += 0.10 * inside(a.mediastinum - regions.from_middle, 0.01) * regions.body + 0.06 * soft
    image += 0.06 * inside(y - regions.base, 0.01) * regions.body
    if a.shift:  # the spine stays, and is seen through the lung
        image += np.float32(0.09) * inside(0.035 - regions.across, 0.008) * regions.air
    trachea = x - np.float32(a.shift)
    image -= 0.06 * np.exp(-((trachea / 0.016) ** 2)) * inside(0.33 - y, 0.02)
    image += 0.03 * np.exp(-((x / 0.03) ** 2)) * np.cos(y * np.float32(2 * np.pi / 0.055))
    hilum = np.exp(-(((regions.from_middle - a.mediastinum - 0.03) / 0.03) ** 2) - ((y - 0.46) / 0.07) ** 2)
    image += 0.11 * hilum * regions.air
    if rng.random() < 0.5:
        bubble = 1 - np.hypot((x - 0.2) / 0.07, (y - a.diaphragm - 0.07) / 0.035)
        image -= 0.10 * inside(bubble.astype(np.float32), 0.125)
    nothing = np.zeros_like(x)
    return Scene(rng, regions, image, darkness, nothing, nothing.copy(), np.ones_like(x))


def draw_vessels(scene: Scene, *, faint: bool) -> None:
    """Vessels around the hila, where no finding hides them."""
    regions, rng = scene.regions, scene.rng
    near_hilum = np.exp(-(((regions.across - 0.09) / 0.17) ** 2) - ((regions.y - 0.47) / 0.24) ** 2)
    strength = np.float32(rng.uniform(0.10, 0.16) * (0.6 if faint else 1))
    seen = np.clip(1 - scene.hidden, 0, 1) * regions.air
    scene.brightness += strength * texture(rng, "vessels", regions.side) * near_hilum * seen


def draw_bones(scene: Scene) -> None:
    """Posterior ribs (which a fracture shifts), faint anterior ribs; clavicles."""
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
    _draw_clavicles(scene)


def _draw_clavicles(scene: Scene) -> None:
    regions, across = scene.regions, scene.regions.across
    # (side, side): how far below the clavicle's axis
    below = regions.y - (clavicle_curve(regions.anatomy, across) + scene.rng.uniform(-0.01, 0.01))
    if scene.clavicle_shift is not None:
        below = below - scene.clavicle_shift
    ends = inside(across - 0.04, 0.008) * inside(0.36 - across, 0.02)
    bone = np.float32(0.09) * np.exp(-((below / 0.014) ** 2)) * ends
    scene.brightness += bone if scene.clavicle_gain is None else bone * scene.clavicle_gain


def _stripes(turn: Plane, width: float) -> Plane:
    """One bright stripe in the middle of every unit of ``turn``."""
    return np.asarray(np.exp(-(((turn - np.floor(turn) - 0.5) / np.float32(width)) ** 2)))


def exposed(scene: Scene) -> npt.NDArray[np.uint8]:
    """Noise, contrast, brightness, gamma and perhaps a side marker; 8 bits."""
    rng, image = scene.rng, scene.brightness
    image += np.float32(rng.uniform(0.004, 0.02)) * texture(rng, "grain", scene.regions.side)
    image += np.float32(0.012) * texture(rng, "mottle", scene.regions.side)
    image = (image - 0.5) * np.float32(rng.uniform(0.85, 1.15)) + np.float32(0.5 + rng.uniform(-0.05, 0.05))
    image = np.clip(image, 0, 1) ** np.float32(rng.uniform(0.8, 1.25))
    if rng.random() < 0.35:
        _mark_side(rng, image)
    return (image * 255 + 0.5).astype(np.uint8)


def _mark_side(rng: np.random.Generator, image: Plane) -> None:
    """A lead letter L: bright, and no finding."""
    row, column = int(rng.integers(8, 40)), int(rng.integers(8, 20))
    if rng.random() < 0.5:
        column = image.shape[1] - column - 8
    image[row : row + 9, column : column + 2] = 0.95
    image[row + 7 : row + 9, column : column + 6] = 0.95
