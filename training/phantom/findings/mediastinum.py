"""Findings of heart, great vessels and mediastinum: mostly drawn with the anatomy, boxed here."""

from __future__ import annotations

import numpy as np

from training.phantom.anatomy import inside
from training.phantom.findings.scene import Mask, Scene


def draw_cardiomegaly(scene: Scene) -> list[Mask]:
    """The heart itself; its size was drawn with the anatomy."""
    return [scene.regions.heart > 0.5]


def draw_aortic_enlargement(scene: Scene) -> list[Mask]:
    """The aortic knob itself; its size was drawn with the anatomy."""
    return [scene.regions.knob > 0.5]


def draw_enlarged_pulmonary_artery(scene: Scene) -> list[Mask]:
    """A second bulge on the left border, right below the aortic knob."""
    regions, rng, a = scene.regions, scene.rng, scene.regions.anatomy
    half_width, half_height = rng.uniform(0.06, 0.08), rng.uniform(0.042, 0.052)
    x = a.mediastinum + a.shift + rng.uniform(0.01, 0.025)
    y = a.knob_y + a.knob_radius + half_height * rng.uniform(0.95, 1.1)
    radius = np.hypot((regions.x - np.float32(x)) / half_width, (regions.y - np.float32(y)) / half_height)
    artery = inside((1 - radius) * np.float32(half_height))
    scene.brightness += np.float32(scene.darkness + 0.07) * artery * regions.air
    scene.hidden += artery
    return [artery > 0.5]


def draw_mediastinal_shift(scene: Scene) -> list[Mask]:
    """Trachea and mediastinum above the heart; how far they are pushed aside was drawn with the anatomy."""
    regions, a = scene.regions, scene.regions.anatomy
    above_heart = (regions.y > a.apex) & (regions.y < max(a.heart_y, a.apex + 0.3))
    return [(regions.from_middle < a.mediastinum) & above_heart]
