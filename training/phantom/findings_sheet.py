"""Every finding on a phantom of its own, with its box: one picture to look at all of them."""

from __future__ import annotations

from typing import Final

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont

from training.phantom.choice import DRAWN_LABELS
from training.phantom.radiograph import SIDE, Phantom, phantom

_COLUMNS: Final = 6
_SEED: Final = 2_207
_CAPTION: Final = 22
"""Height of a panel's caption in pixels."""

_GREYS: Final = 40
"""Shades that are kept, which makes the file half as large."""

_BOX, _WORDS, _BACKGROUND = "#ff4d4d", "#e5e5e5", "#000000"


def findings_sheet(seed: int = _SEED) -> Image.Image:
    """A panel a label, in the vocabulary's order; findings with two parts have two boxes."""
    height = SIDE + _CAPTION
    rows = -(-len(DRAWN_LABELS) // _COLUMNS)
    sheet = Image.new("RGB", (_COLUMNS * SIDE, rows * height), _BACKGROUND)
    for number, label in enumerate(DRAWN_LABELS):
        one = phantom(np.random.default_rng((seed, number)), labels=(label,), hyperinflated=False)
        sheet.paste(_panel(one, label), (number % _COLUMNS * SIDE, number // _COLUMNS * height))
    return sheet.quantize(palette=_palette(), dither=Image.Dither.NONE)


def _palette() -> Image.Image:
    """The greys and the boxes' red, and nothing between."""
    shades = [round(number * 255 / (_GREYS - 1)) for number in range(_GREYS)]
    colours = [*((shade, shade, shade) for shade in shades), ImageColor.getrgb(_BOX)]
    palette = Image.new("P", (1, 1))
    palette.putpalette([part for colour in colours for part in colour])
    return palette


def _panel(one: Phantom, label: str) -> Image.Image:
    shades = np.rint(one.pixels * ((_GREYS - 1) / 255)) * (255 / (_GREYS - 1))  # (rows, columns)
    panel = Image.new("RGB", (SIDE, SIDE + _CAPTION), _BACKGROUND)
    panel.paste(Image.fromarray(shades.astype(np.uint8)).convert("RGB"), (0, 0))
    draw = ImageDraw.Draw(panel)
    for finding in one.findings:
        box = finding.box
        draw.rectangle((box.x_min - 1, box.y_min - 1, box.x_max, box.y_max), outline=_BOX)
    draw.text((5, SIDE + 4), label, fill=_WORDS, font=ImageFont.load_default(13))
    return panel
