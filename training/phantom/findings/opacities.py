"""Cloudy findings: parts of the lung that are whiter than they should be."""

from __future__ import annotations

import numpy as np

from training.phantom.anatomy import inside
from training.phantom.findings.scene import Mask, Scene
from training.phantom.textures import texture


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


def draw_edema(scene: Scene) -> list[Mask]:
    """Haze around both hila in the shape of a bat's wings; vessels blur in it."""
    regions, rng, a = scene.regions, scene.rng, scene.regions.anatomy
    half_width, half_height = rng.uniform(0.095, 0.125), rng.uniform(0.13, 0.17)
    y = rng.uniform(0.44, 0.49)
    strength, fluffy = rng.uniform(0.17, 0.23), texture(rng, "mottle", regions.side)
    across = (regions.from_middle - np.float32(a.mediastinum + 0.5 * half_width)) / half_width
    radius = np.hypot(across, (regions.y - np.float32(y)) / half_height)
    haze = inside((1 - radius - 0.05 * fluffy).astype(np.float32), 0.16) * regions.air
    scene.brightness += np.float32(strength) * haze * (1 + 0.10 * fluffy)
    scene.hidden += haze
    to_left = regions.x > a.shift
    return [(haze > 0.45) & to_left, (haze > 0.45) & ~to_left]


def draw_infiltration(scene: Scene) -> list[Mask]:
    """Several small fluffy patches that lie together; one box round them all."""
    rng, regions = scene.rng, scene.regions
    spread_x, spread_y = rng.uniform(0.06, 0.085), rng.uniform(0.08, 0.12)
    centre = scene.place(spread_x, spread_y, (0.2, 0.85), fit=0.8)
    if centre is None:
        return []
    count = int(rng.integers(4, 7))
    angles = rng.permutation(count) * 2 * np.pi / count + rng.uniform(0, 2 * np.pi)
    patches = np.zeros_like(regions.x)
    for angle in angles:
        size = rng.uniform(0.020, 0.030)
        x = centre[0] + (spread_x - size) * rng.uniform(0.8, 1) * np.cos(angle)
        y = centre[1] + (spread_y - size) * rng.uniform(0.8, 1) * np.sin(angle)
        np.maximum(patches, np.exp(-((regions.distance(x, y) / size) ** 2)), out=patches)
    patches *= regions.air
    scene.brightness += np.float32(rng.uniform(0.20, 0.27)) * patches
    scene.hidden += np.float32(0.6) * patches
    return [patches > 0.4]


def draw_lung_opacity(scene: Scene) -> list[Mask]:
    """A large, even, faint veil with a soft border (ground glass); vessels are seen through it."""
    rng, regions = scene.rng, scene.regions
    half_width, half_height = rng.uniform(0.095, 0.125), rng.uniform(0.13, 0.18)
    centre = scene.place(half_width, half_height, (0.25, 0.75), fit=0.45)
    if centre is None:
        return []
    radius = np.hypot((regions.x - centre[0]) / half_width, (regions.y - centre[1]) / half_height)
    veil = inside((1 - radius).astype(np.float32), 0.09) * regions.air
    scene.brightness += np.float32(rng.uniform(0.17, 0.21)) * veil
    return [veil > 0.5]
