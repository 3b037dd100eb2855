"""Findings of firm things in the lung: nodules, calcium and metal."""

from __future__ import annotations

import numpy as np

from training.phantom.anatomy import inside
from training.phantom.findings.scene import Mask, Scene, body_extent
from training.phantom.textures import texture


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


def draw_other_lesion(scene: Scene) -> list[Mask]:
    """Metal where none belongs: a nail, white throughout, with a sharp edge and a head."""
    rng, regions = scene.rng, scene.regions
    half_length, thickness, head = rng.uniform(0.055, 0.075), 0.009, rng.uniform(0.026, 0.034)
    reach = half_length + 0.01
    centre = scene.place(reach, reach, (0.15, 0.88), fit=0.8)
    if centre is None:
        return []
    along, athwart = regions.turned(*centre, rng.uniform(0, 2 * np.pi))
    shaft = np.minimum(np.float32(half_length) - np.abs(along), np.float32(thickness) - np.abs(athwart))
    top = np.minimum(
        np.float32(0.010) - np.abs(along - np.float32(half_length)), np.float32(head) - np.abs(athwart)
    )
    metal = inside(np.maximum(shaft, top), 0.0025)
    scene.brightness += np.float32(0.75) * metal
    return [metal > 0.5]
