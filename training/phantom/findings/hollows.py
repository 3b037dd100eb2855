"""Findings that hold air where lung should be: cavity, cyst and emphysema."""

from __future__ import annotations

import numpy as np

from training.phantom.anatomy import inside
from training.phantom.findings.scene import Mask, Scene


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


def draw_lung_cyst(scene: Scene) -> list[Mask]:
    """A black bubble with a hairline wall, in the middle or lower lung."""
    rng, regions = scene.rng, scene.regions
    radius = rng.uniform(0.052, 0.08)
    centre = scene.place(radius, radius, (0.4, 0.88))
    if centre is None:
        return []
    distance = regions.distance(*centre)
    wall = np.exp(-(((distance - np.float32(radius - 0.006)) / np.float32(0.0042)) ** 2))
    hollow = inside((radius - 0.012 - distance).astype(np.float32), 0.004)
    scene.brightness += np.float32(rng.uniform(0.15, 0.20)) * wall - np.float32(0.13) * hollow
    scene.hidden += distance < radius
    return [distance < radius]


def draw_emphysema(scene: Scene) -> list[Mask]:
    """Two black bubbles without a wall that run together, in an upper zone; the lung around is denser."""
    rng, regions = scene.rng, scene.regions
    half_width, half_height = rng.uniform(0.085, 0.11), rng.uniform(0.13, 0.17)
    centre = scene.place(half_width, half_height, (0.2, 0.42), fit=0.75)
    if centre is None:
        return []
    # (side, side): 1 on the outline of the bubbles, less inside
    radius = np.full_like(regions.x, np.inf)
    for part, shift in ((-0.45, rng.uniform(-0.3, 0.3)), (0.45, rng.uniform(-0.3, 0.3))):
        right = (regions.x - np.float32(centre[0] + shift * half_width)) / np.float32(0.75 * half_width)
        down = (regions.y - np.float32(centre[1] + part * half_height)) / np.float32(0.6 * half_height)
        np.minimum(radius, np.hypot(right, down), out=radius)
    region = inside(1 - radius, 0.06) * regions.air
    denser = np.exp(-np.clip(radius - 1, 0, None) / np.float32(0.5)) * regions.air - region
    scene.brightness += np.float32(0.09) * denser - np.float32(0.16) * region
    scene.hidden += region
    return [region > 0.5]
