"""Broken ribs and clavicles."""

from __future__ import annotations

import numpy as np

from training.phantom.anatomy import Anatomy, Plane, Regions, inside
from training.phantom.findings.scene import Mask, Scene


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


def draw_clavicle_fracture(scene: Scene) -> list[Mask]:
    """A clavicle broken in two, its outer part fallen below the inner one."""
    rng, regions = scene.rng, scene.regions
    sign = 1 if rng.random() < 0.5 else -1
    at, half_width, half_height = rng.uniform(0.14, 0.22), 0.065, 0.052
    step = rng.uniform(0.034, 0.042)
    along = np.sign(np.float32(sign)) * regions.x - np.float32(at)
    near = inside(half_width - np.abs(along), 0.012)
    side = regions.x * sign > 0  # clavicles stay where they are in a shifted chest
    # The outer fragment hangs, and rises back to its joint at the shoulder
    fallen = np.float32(step) * np.clip(1 - along / 0.16, 0, 1) * (along > 0) * side
    gap = np.exp(-((along / 0.008) ** 2))
    scene.clavicle_shift = fallen - np.float32(0.010) * near * (along < 0) * side
    scene.clavicle_gain = np.where(side, (1 + 1.8 * near) * (1 - 0.9 * gap), np.float32(1))
    y = float(clavicle_curve(regions.anatomy, np.float32(at))) + 0.4 * step
    return [(np.abs(along) < half_width) & (np.abs(regions.y - y) < half_height)]


def clavicle_curve(anatomy: Anatomy, across: Plane | np.float32) -> Plane:
    """How far down the clavicles are at a distance from the midline."""
    return np.asarray(anatomy.apex + 0.07 - 0.22 * (across - 0.04), np.float32)
