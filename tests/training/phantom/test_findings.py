"""What each drawer paints, and whether the mask that it gives is where it painted."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from training.phantom.anatomy import Regions, draw_anatomy
from training.phantom.chest import chest_scene, draw_bones
from training.phantom.findings.drawers import DRAWERS
from training.phantom.findings.scene import Mask, Scene
from training.phantom.radiograph import SIDE, mask_box

OF_THE_ANATOMY = {"Cardiomegaly", "Aortic enlargement", "Mediastinal shift"}
OF_THE_BONES = {"Clavicle fracture", "Rib fracture"}
PAINTED = [label for label in DRAWERS if label not in OF_THE_ANATOMY | OF_THE_BONES]


def scene_of(seed: int, *, shifted: bool = False) -> Scene:
    rng = np.random.default_rng((9, seed))
    return chest_scene(rng, Regions(draw_anatomy(rng, shifted=shifted), SIDE))


def empty_scene(regions: Regions, seed: int) -> Scene:
    """A scene on which nothing is drawn, not even the chest, which takes time and no drawer looks at."""
    brightness, hidden, rib_shift = np.zeros((3, SIDE, SIDE), np.float32)
    rng = np.random.default_rng((8, seed))
    return Scene(rng, regions, brightness, 0.4, hidden, rib_shift, np.ones_like(hidden))


def union(masks: list[Mask]) -> Mask:
    return np.asarray(np.any(masks, axis=0))


def test_every_finding_alone_finds_room_on_at_least_99_of_100_chests() -> None:
    found: Counter[str] = Counter()
    for seed in range(100):
        regions = Regions(draw_anatomy(np.random.default_rng((7, seed)), hyperinflated=seed % 8 == 0), SIDE)
        for label, draw in DRAWERS.items():
            found[label] += any(mask.any() for mask in draw(empty_scene(regions, seed)))
    assert all(found[label] >= 99 for label in DRAWERS), found


@pytest.mark.parametrize("label", PAINTED)
def test_the_box_is_round_what_was_painted(label: str) -> None:
    for seed in range(8):
        scene = scene_of(seed)
        before = scene.brightness.copy()
        masks = DRAWERS[label](scene)
        assert masks
        change = np.abs(scene.brightness - before)
        box, painted = mask_box(union(masks)), mask_box(change > 0.35 * change.max())
        assert box is not None and painted is not None
        # Half of an enlarged artery lies in the mediastinum, as bright before; fluid lies behind the heart
        assert box.iou(painted) > (0.5 if label in ("Enlarged PA", "Pleural effusion") else 0.7)


@pytest.mark.parametrize("label", sorted(OF_THE_BONES))
def test_a_fracture_changes_bones_within_its_box_above_all(label: str) -> None:
    for seed in range(8):
        broken, whole = scene_of(seed), scene_of(seed)
        mask = union(DRAWERS[label](broken))
        for scene in (broken, whole):
            scene.rng = np.random.default_rng(1)
            scene.brightness[:] = 0
            draw_bones(scene)
        change = np.abs(broken.brightness - whole.brightness)
        assert change[mask].max() > 0.08
        assert change[mask].mean() > 5 * change[~mask].mean()


def test_a_shifted_mediastinum_takes_heart_and_aorta_along_and_leaves_the_spine() -> None:
    for seed in range(8):
        scene, straight = scene_of(seed, shifted=True), scene_of(seed)
        a, usual = scene.regions.anatomy, straight.regions.anatomy
        assert 0.06 < abs(a.shift) < 0.11
        assert a.heart_x - usual.heart_x == pytest.approx(a.shift)
        assert a.knob_x - usual.knob_x == pytest.approx(a.shift)
        (mask,) = DRAWERS["Mediastinal shift"](scene)
        middle = scene.regions.x[mask].mean()
        assert middle == pytest.approx(a.shift, abs=0.01)


def test_a_cyst_s_wall_is_thinner_than_a_cavity_s() -> None:
    def wall(label: str, seed: int) -> float:
        """Part of the round that is brighter than before."""
        scene = scene_of(seed)
        before = scene.brightness.copy()
        (mask,) = DRAWERS[label](scene)
        return float((scene.brightness - before > 0.05)[mask].mean())

    cysts = [wall("Lung cyst", seed) for seed in range(12)]
    cavities = [wall("Lung cavity", seed) for seed in range(12)]
    assert max(cysts) < min(cavities)


def test_each_lung_of_a_shifted_chest_has_its_own_box() -> None:
    for seed in range(8):
        scene = scene_of(seed, shifted=True)
        a = scene.regions.anatomy
        for mask in (*DRAWERS["ILD"](scene), *DRAWERS["Pleural effusion"](scene)):
            x = scene.regions.x[mask]
            assert x.min() > a.shift or x.max() < a.shift


def test_emphysema_lies_in_an_upper_zone_and_is_darker_than_all_around_it() -> None:
    for seed in range(12):
        scene = scene_of(seed)
        before = scene.brightness.copy()
        (mask,) = DRAWERS["Emphysema"](scene)
        assert scene.regions.height[mask].mean() < 0.5
        change = scene.brightness - before
        assert change[mask].mean() < -0.08
        # Without a wall: what lies around gets a little denser, nowhere as bright as a cyst's ring
        assert change.max() < 0.09


@pytest.mark.parametrize("label", ["Edema", "ILD"])
def test_diffuse_findings_are_on_both_sides(label: str) -> None:
    scene = scene_of(2)
    masks = DRAWERS[label](scene)
    assert sorted(bool(scene.regions.x[mask].mean() > 0) for mask in masks) == [False, True]
