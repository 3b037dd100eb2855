"""Findings of the pleura: fluid, air and thickening between lung and chest wall."""

from __future__ import annotations

import numpy as np

from training.phantom.anatomy import inside
from training.phantom.findings.scene import Mask, Scene, body_extent


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
