"""The chest a phantom is drawn from: its measures, and the regions they make on the picture.

Lengths are fractions of the picture's side. ``x`` runs from the midline, positive to the patient's left (the
right of the picture); ``y`` from the top of the picture. Both are the body's own axes: a tilted patient tilts
them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Plane = npt.NDArray[np.floating[Any]]
"""(side, side); float32 as far as it matters for speed."""

EDGE: Final = 0.006
"""Softness of an anatomical border: about 1.3 pixels at 224."""


def inside(distance: Plane, softness: float = EDGE) -> Plane:
    """A soft mask, 0..1, from a signed distance that is positive inside."""
    return np.asarray(0.5 + 0.5 * np.tanh(distance * np.float32(0.5 / softness)), np.float32)


@dataclass(frozen=True, slots=True)
class Anatomy:
    """The measures of one chest.

    ``shift`` says how far the mediastinum, with heart and aorta, is pushed off the midline; ``heart_x`` and
    ``knob_x`` have it in them. Spine, ribs and clavicles stay where they are.
    """

    tilt_radians: float
    midline: float
    lung_width: float
    apex: float
    diaphragm: float
    left_dome_drop: float
    dome_height: float
    mediastinum: float
    wall: float
    heart_width: float
    heart_height: float
    heart_x: float
    heart_y: float
    heart_tilt_radians: float
    knob_radius: float
    knob_x: float
    knob_y: float
    rib_spacing: float
    rib_phase: float
    shift: float = 0.0

    def outer(self, height: Plane | float) -> Plane:
        """Half width of the lungs at a height (0 apex, 1 diaphragm)."""
        below_widest = 1 - np.clip(np.asarray(height, np.float32) / 0.75, 0, 1)
        return np.asarray(self.lung_width * (0.42 + 0.58 * np.sqrt(1 - below_widest**2)), np.float32)


def draw_anatomy(
    rng: np.random.Generator,
    *,
    hyperinflated: bool = False,
    large_heart: bool = False,
    large_aorta: bool = False,
    shifted: bool = False,
) -> Anatomy:
    """Draws the measures of one chest; hyperinflation means wide lungs, low flat diaphragm, narrow heart."""
    uniform = rng.uniform
    lung_width = uniform(0.40, 0.43) if hyperinflated else uniform(0.33, 0.39)
    diaphragm = uniform(0.86, 0.90) if hyperinflated else uniform(0.70, 0.78)
    mediastinum = uniform(0.045, 0.055) if hyperinflated else uniform(0.055, 0.075)
    if large_heart:
        heart_width = lung_width * uniform(0.56, 0.70)
    else:
        heart_width = lung_width * (uniform(0.27, 0.32) if hyperinflated else uniform(0.36, 0.43))
    heart_height = float(np.clip(heart_width * uniform(0.85, 1.05), 0.10, 0.19))
    knob_radius = uniform(0.058, 0.082) if large_aorta else uniform(0.026, 0.034)
    anatomy = Anatomy(
        tilt_radians=float(np.deg2rad(rng.normal(0, 1.5))),
        midline=0.5 + rng.normal(0, 0.012),
        lung_width=lung_width,
        apex=uniform(0.08, 0.14),
        diaphragm=diaphragm,
        left_dome_drop=uniform(0, 0.03),
        dome_height=uniform(0, 0.012) if hyperinflated else uniform(0.05, 0.08),
        mediastinum=mediastinum,
        wall=uniform(0.06, 0.09),
        heart_width=heart_width,
        heart_height=heart_height,
        heart_x=0.045 + (heart_width - 0.14) * 0.25,
        heart_y=diaphragm - heart_height * uniform(0.62, 0.78),
        heart_tilt_radians=uniform(0.2, 0.45),
        knob_radius=knob_radius,
        knob_x=mediastinum + 0.35 * knob_radius,
        knob_y=uniform(0.27, 0.32),
        rib_spacing=uniform(0.075, 0.09),
        rib_phase=uniform(0, 0.08),
    )
    return _pushed_aside(anatomy, rng) if shifted else anatomy


def _pushed_aside(anatomy: Anatomy, rng: np.random.Generator) -> Anatomy:
    """The same chest with its mediastinum far to one side."""
    shift = float(rng.uniform(0.065, 0.10)) * (1 if rng.random() < 0.5 else -1)
    return replace(anatomy, shift=shift, heart_x=anatomy.heart_x + shift, knob_x=anatomy.knob_x + shift)


class Regions:
    """Where the parts of one chest lie on a picture of ``side`` × ``side`` pixels.

    Every plane is (side, side), float32; the soft masks run from 0 to 1.

    Attributes:
        x: Distance from the midline, positive to the patient's left.
        y: Distance from the top.
        across: ``|x|``.
        from_middle: Distance from the middle of the mediastinum: ``across``, unless it is shifted.
        left: True on the patient's left of the mediastinum, which a shift takes along.
        height: 0 at the apex of the lung, 1 at the diaphragm, unclipped.
        inner, outer: The lung's medial and lateral border at each height.
        base: The y of the diaphragm's dome in each column.
        lungs, heart, knob, body: Soft masks.
        air: The lungs that no heart or aorta hides.
    """

    def __init__(self, anatomy: Anatomy, side: int) -> None:
        self.anatomy = anatomy
        self.side = side
        self.x, self.y = _body_axes(anatomy, side)
        self.across = np.abs(self.x)
        self.from_middle = np.abs(self.x - np.float32(anatomy.shift)) if anatomy.shift else self.across
        self.left = self.x > np.float32(anatomy.shift)
        self._lungs()
        self._soft_organs()
        self._body()

    def _lungs(self) -> None:
        a = self.anatomy
        floor = np.where(self.left, np.float32(a.diaphragm + a.left_dome_drop), np.float32(a.diaphragm))
        self.height = (self.y - a.apex) / (floor - a.apex)
        clipped = np.clip(self.height, 0, 1)
        self.outer = a.outer(clipped)
        flare = np.exp(-((clipped / 0.09) ** 2))
        self.inner = (a.mediastinum + (0.4 * a.lung_width - a.mediastinum) * flare).astype(np.float32)
        from_dome = (self._across_lung() - 0.52 * a.lung_width) / a.lung_width
        self.base = (floor + a.dome_height * (8 * from_dome**2 - 0.3)).astype(np.float32)
        self.lungs = (
            inside(self.from_middle - self.inner)
            * inside(self.outer - self.across)
            * inside(self.base - self.y)
            * inside(self.y - a.apex)
        )

    def _across_lung(self) -> Plane:
        """``across``, stretched in a shifted chest so that each dome falls from mediastinum to wall."""
        a = self.anatomy
        if not a.shift:
            return self.across
        room = np.where(self.left, np.float32(a.lung_width - a.shift), np.float32(a.lung_width + a.shift))
        return np.asarray(self.from_middle * (np.float32(a.lung_width) / room))

    def _soft_organs(self) -> None:
        a = self.anatomy
        along, athwart = self.turned(a.heart_x, a.heart_y, a.heart_tilt_radians)
        radius = np.hypot(along / a.heart_width, athwart / a.heart_height)
        self.heart = inside((1 - radius) * a.heart_width)
        self.knob = inside(a.knob_radius - self.distance(a.knob_x, a.knob_y))
        self.air = self.lungs * (1 - np.maximum(self.heart, self.knob))

    def _body(self) -> None:
        a = self.anatomy
        shoulders = 0.25 * np.exp(-(((self.y - 0.02) / 0.09) ** 2)) * (self.y < 0.3)
        self.wall = (a.lung_width + a.wall + 0.02 * np.sin(4 * self.y)).astype(np.float32)
        trunk = inside(self.wall + shoulders - self.across, 0.012)
        neck = inside(0.13 + 2.2 * np.clip(self.y, 0, 1) - self.across, 0.02)
        self.body = trunk * neck

    def distance(self, x: float, y: float) -> Plane:
        """Distance of every pixel from a point of the body."""
        return np.asarray(np.hypot(self.x - np.float32(x), self.y - np.float32(y)))

    def turned(self, x: float, y: float, angle_radians: float) -> tuple[Plane, Plane]:
        """Coordinates of every pixel in axes with their origin at (x, y), turned by an angle."""
        cosine, sine = np.float32(np.cos(angle_radians)), np.float32(np.sin(angle_radians))
        right, down = self.x - np.float32(x), self.y - np.float32(y)
        return right * cosine + down * sine, down * cosine - right * sine


def _body_axes(anatomy: Anatomy, side: int) -> tuple[Plane, Plane]:
    centres = (np.arange(side, dtype=np.float32) + 0.5) / side - 0.5
    columns, rows = np.meshgrid(centres, centres)
    cosine, sine = np.float32(np.cos(anatomy.tilt_radians)), np.float32(np.sin(anatomy.tilt_radians))
    x = columns * cosine + rows * sine + np.float32(0.5 - anatomy.midline)
    y = rows * cosine - columns * sine + np.float32(0.5)
    return x, y
