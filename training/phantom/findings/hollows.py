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
    """Several black bubbles without a wall that run together; the lung between and around is pressed."""
    rng, regions = scene.rng, scene.regions
    half_width, half_height = rng.uniform(0.075, 0.10), rng.uniform(0.11, 0.15)
    centre = scene.place(half_width, half_height, (0.2, 0.75), fit=0.8)
    if centre is None:
        return []
    radius = np.hypot((regions.x - centre[0]) / half_width, (regions.y - centre[1]) / half_height)
    region = inside((1 - radius).astype(np.float32), 0.06) * regions.air
    pressed = np.exp(-(((radius - 1.12) / 0.10) ** 2)) * regions.air
    scene.brightness += np.float32(0.08) * pressed - np.float32(0.14) * region
    scene.hidden += region
    return [region > 0.5]
