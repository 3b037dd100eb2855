"""Findings that are a pattern of lines: fibrosis, interstitial disease and plates of collapsed lung."""

from __future__ import annotations

import numpy as np

from training.phantom.anatomy import inside
from training.phantom.findings.scene import Mask, Scene
from training.phantom.textures import texture


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


def draw_interstitial_disease(scene: Scene) -> list[Mask]:
    """A coarse net of thick strands in the lower part of both lungs."""
    regions, rng = scene.regions, scene.rng
    top = rng.uniform(0.48, 0.62)
    zone = inside((regions.height - np.float32(top)).astype(np.float32), 0.02) * regions.air
    net = texture(rng, "honeycomb", regions.side) - np.float32(0.25)
    scene.brightness += np.float32(rng.uniform(0.24, 0.32)) * zone * net
    scene.hidden += zone
    return [(zone > 0.5) & regions.left, (zone > 0.5) & ~regions.left]
