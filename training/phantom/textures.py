"""Noise that looks like tissue: a few large random fields, made once, of which each phantom takes pieces.

Filtering noise for every image would cost more than all the rest of a phantom.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

Field = npt.NDArray[np.floating[Any]]
Texture = Literal["grain", "cloud", "mottle", "vessels", "reticulum", "honeycomb"]

FIELD_SIDE: Final = 640
_SEED: Final = 20240717
_FIELDS_PER_TEXTURE: Final = 3


@cache
def _fields(texture: Texture) -> tuple[Field, ...]:
    rng = np.random.default_rng([_SEED, len(texture)])
    match texture:
        case "grain":
            return tuple(_white(rng) for _ in range(_FIELDS_PER_TEXTURE))
        case "cloud":
            return tuple(_band(rng, 3, 8) for _ in range(_FIELDS_PER_TEXTURE))
        case "mottle":
            return tuple(_band(rng, 18, 38) for _ in range(_FIELDS_PER_TEXTURE))
        case "vessels":
            return tuple(_ridges(_band(rng, 20, 44), 0.22) for _ in range(_FIELDS_PER_TEXTURE))
        case "honeycomb":
            return tuple(_ridges(_band(rng, 34, 56), 0.42) for _ in range(_FIELDS_PER_TEXTURE))
        case "reticulum":
            return tuple(_ridges(_band(rng, 62, 100), 0.3) for _ in range(_FIELDS_PER_TEXTURE))


def _white(rng: np.random.Generator) -> Field:
    return rng.standard_normal((FIELD_SIDE, FIELD_SIDE)).astype(np.float32)


def _band(rng: np.random.Generator, low: float, high: float) -> Field:
    """Noise of unit variance with ``low`` to ``high`` cycles across the field (log-normal band)."""
    rows = np.fft.fftfreq(FIELD_SIDE)[:, None]
    columns = np.fft.rfftfreq(FIELD_SIDE)[None]
    cycles = np.hypot(rows, columns) * FIELD_SIDE
    distance = (np.log(cycles + 1e-6) - np.log(np.sqrt(low * high))) / np.log(high / low)
    spectrum = np.fft.rfft2(_white(rng)) * np.exp(-2 * distance**2)
    field = np.fft.irfft2(spectrum, s=(FIELD_SIDE, FIELD_SIDE))
    return np.asarray(field / field.std(), np.float32)


def _ridges(field: Field, width: float) -> Field:
    """Bright lines where the field crosses zero: branching curves, as of vessels or septa."""
    return np.asarray(np.exp(-((field / width) ** 2)), np.float32)


def texture(rng: np.random.Generator, kind: Texture, side: int) -> Field:
    """A random piece of a texture, perhaps mirrored or transposed.

    Returns:
        (side, side); ``grain``, ``cloud`` and ``mottle`` have zero mean and unit variance, ``vessels``,
        ``reticulum`` and ``honeycomb`` run from 0 to 1.
    """
    fields = _fields(kind)
    field = fields[rng.integers(len(fields))]
    row, column = rng.integers(0, FIELD_SIDE - side, 2)
    piece = field[row : row + side, column : column + side]
    flip = rng.integers(4)
    if flip == 1:
        return piece[::-1]
    if flip == 2:
        return piece[:, ::-1]
    return piece.T if flip == 3 else piece
