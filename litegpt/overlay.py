"""Draws a reading over its radiograph, for a person to look at: boxes, labels, scores, diagnoses. Torch-free.

The picture keeps the radiograph's size. Lines and letters grow with it; labels stay inside the picture and,
while there is room, out of each other's way, a line leading to the box where they had to stand off. A label
longer than the picture is wide is left out.
"""

from __future__ import annotations

import colorsys
import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from PIL import Image, ImageDraw, ImageFont

from litegpt.boxes import Box
from litegpt.findings import Finding
from litegpt.radiograph import Radiograph
from litegpt.vocabulary import LABELS

DEMONSTRATION_BANNERS: Final = ("DEMONSTRATION - not for clinical use", "NOT FOR CLINICAL USE", "DEMO")
"""The warning, the longest that fits first."""

_Colour = tuple[int, int, int]
_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_BLACK: Final = (0, 0, 0)
_WHITE: Final = (255, 255, 255)
_WARNING: Final = (255, 191, 0)
_NOTE: Final = (208, 208, 208)
_PANEL: Final = (0, 0, 0, 176)
_SMALLEST_FONT: Final = 8


def draw_overlay(
    radiograph: Radiograph,
    findings: Sequence[Finding],
    *,
    demonstration: bool,
    notes: Sequence[str] = (),
) -> Image.Image:
    """Draws findings over the image they were found in.

    Args:
        radiograph: The image as displayed.
        findings: Findings of this image; those without a box are listed in a corner, those that are not
            reported are left out.
        demonstration: Whether to mark the picture as one that means nothing for a patient.
        notes: What to write along the lower edge; of these the first that fits.

    Returns:
        RGB, exactly the size of the radiograph.
    """
    canvas = _Canvas.over(radiograph)
    boxed, listed = _split([finding for finding in findings if finding.reported], radiograph)
    for finding, box in boxed:
        canvas.draw_box(box, label_colour(finding.label))
    if demonstration:
        canvas.draw_banner(DEMONSTRATION_BANNERS, _WARNING)
    if notes:
        canvas.draw_banner(notes, _NOTE)
    if listed:
        canvas.draw_panel(listed, [box for _, box in boxed])
    # Small boxes first: they have the fewest places for a label that is clearly theirs
    canvas.draw_labels(
        [
            (_caption(finding), box, label_colour(finding.label))
            for finding, box in sorted(boxed, key=lambda drawn: drawn[1].area)
        ]
    )
    return canvas.image


def label_colour(label: str) -> _Colour:
    """A bright colour of its own for each label of the vocabulary, the same in every picture."""
    index = LABELS.index(label) if label in LABELS else zlib.crc32(label.encode())
    slot = index * 11 % len(LABELS)  # 11 and 28 have no common factor: neighbours in the list are far apart
    red, green, blue = colorsys.hsv_to_rgb(slot / len(LABELS), 0.40 if slot % 2 else 0.72, 1.0)
    return round(red * 255), round(green * 255), round(blue * 255)


def _split(
    findings: Sequence[Finding], radiograph: Radiograph
) -> tuple[list[tuple[Finding, Box]], list[Finding]]:
    """Findings with the part of their box inside the image, and those that have no such part."""
    boxed: list[tuple[Finding, Box]] = []
    listed: list[Finding] = []
    for finding in findings:
        try:
            box = finding.box and finding.box.clipped(radiograph.columns, radiograph.rows)
        except ValueError:
            box = None
        if box is None:
            listed.append(finding)
        else:
            boxed.append((finding, box))
    return boxed, listed


def _caption(finding: Finding) -> str:
    return f"{finding.label} {finding.score:.2f}"


@dataclass(frozen=True, slots=True)
class _Rectangle:
    """Whole pixels: left and top inclusive, right and bottom exclusive."""

    left: int
    top: int
    right: int
    bottom: int

    def overlap(self, other: _Rectangle) -> int:
        """Common area in pixels."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(0, width) * max(0, height)

    def distance(self, other: _Rectangle) -> int:
        """Pixels between the two along columns plus those along rows; 0 where they touch."""
        columns = max(other.left - self.right, self.left - other.right, 0)
        return columns + max(other.top - self.bottom, self.top - other.bottom, 0)

    def is_inside(self, other: _Rectangle) -> bool:
        """Whether no part of this lies outside the other."""
        inside_columns = other.left <= self.left and self.right <= other.right
        return inside_columns and other.top <= self.top and self.bottom <= other.bottom


class _Canvas:
    """The picture while it is drawn, and the places already taken by text."""

    def __init__(self, image: Image.Image) -> None:
        self.image = image
        self._draw = ImageDraw.Draw(image, "RGBA")
        self._frame = _Rectangle(0, 0, image.width, image.height)
        self._taken: list[_Rectangle] = []
        # Between the sides, so that a narrow strip gets letters that can be read
        size = math.sqrt(min(image.size) * math.sqrt(image.width * image.height))
        self._line = max(1, round(size / 400))
        self._font = _font(max(_SMALLEST_FONT, round(size / 46)))
        self._gap = max(1, round(size / 300))

    @classmethod
    def over(cls, radiograph: Radiograph) -> _Canvas:
        return cls(Image.fromarray(radiograph.pixels, mode="L").convert("RGB"))

    def draw_box(self, box: Box, colour: _Colour) -> None:
        """Outlines the pixels that the box touches; the line lies within them, a dark hem inside and out."""
        outer = _pixels_of(box)
        self._outline(outer, -self._hem, self._hem, (0, 0, 0, 150))
        self._outline(outer, self._line, self._hem, (0, 0, 0, 150))
        self._outline(outer, 0, self._line, (*colour, 255))

    def draw_banner(self, texts: Sequence[str], colour: _Colour) -> None:
        """The first text that fits, over the whole width of the lower edge or above what is there already."""
        floor = min((taken.top for taken in self._taken), default=self.image.height)
        for banner in texts:
            font = self._font
            while self._text_size(banner, font)[0] > self.image.width * 0.96 and font.size > _SMALLEST_FONT:
                font = _font(font.size - 1)
            width, height = self._text_size(banner, font)
            height += 2 * self._gap
            if width <= self.image.width and height <= min(floor, self.image.height // 3):
                break
        else:
            height = max(1, self.image.height // 20)
            banner = ""
        strip = _Rectangle(0, floor - height, self.image.width, floor)
        self._fill(strip, (*colour, 235))
        if banner:
            self._write(banner, (self.image.width - width) // 2, strip.top + self._gap, _BLACK, font)
        self._taken.append(strip)

    def draw_panel(self, findings: Sequence[Finding], boxes: Sequence[Box]) -> None:
        """Lists findings of the whole image in the corner where least is in the way."""
        lines = [_caption(finding) for finding in findings]
        sizes = [self._text_size(line, self._font) for line in lines]
        row = max(height for _, height in sizes) + self._gap
        swatch = row - 2 * self._gap if row > 3 * self._gap else self._gap
        width = max(width for width, _ in sizes) + swatch + 6 * self._gap
        height = row * len(lines) + 3 * self._gap
        place = self._best([*self._corners(width, height)], boxes, None)
        if place is None:
            return
        self._fill(place, _PANEL)
        for index, (line, finding) in enumerate(zip(lines, findings, strict=True)):
            left, top = place.left + 2 * self._gap, place.top + 2 * self._gap + index * row
            mark = _Rectangle(left, top, left + swatch, top + swatch)
            self._fill(mark, (*label_colour(finding.label), 255))
            self._write(line, left + swatch + 2 * self._gap, top, _WHITE, self._font)
        self._taken.append(place)

    def draw_labels(self, labels: Sequence[tuple[str, Box, _Colour]]) -> None:
        """Writes captions at their boxes, wherever each covers least; not at all where it does not fit."""
        boxes = [box for _, box, _ in labels]
        placed: list[tuple[str, _Rectangle, _Colour]] = []
        for caption, box, colour in labels:
            width, height = self._text_size(caption, self._font)
            width, height = width + 2 * self._gap, height + 2 * self._gap
            own = _pixels_of(box)
            place = self._best(list(self._around(own, width, height)), boxes, own)
            if place is None:
                continue
            if place.distance(own) > 2 * self._gap:
                self._lead(place, own, colour)
            self._taken.append(place)
            placed.append((caption, place, colour))
        for caption, place, colour in placed:  # after all lines: none goes through letters
            self._fill(place, (*colour, 225))
            self._write(caption, place.left + self._gap, place.top + self._gap, _BLACK, self._font)

    @property
    def _hem(self) -> int:
        return max(1, self._line // 3)

    def _best(
        self, places: Sequence[_Rectangle], boxes: Sequence[Box], own: _Rectangle | None
    ) -> _Rectangle | None:
        """The place that covers least other text, then least of boxes and nearest to its own."""
        possible = [place for place in places if place.is_inside(self._frame)]
        drawn = [_pixels_of(box) for box in boxes]

        def cost(place: _Rectangle) -> tuple[int, int]:
            text = sum(place.overlap(taken) for taken in self._taken)
            away = place.distance(own) * (place.bottom - place.top) * 4 if own else 0
            return text, sum(place.overlap(box) for box in drawn) + away

        return min(possible, key=cost, default=None)

    def _around(self, box: _Rectangle, width: int, height: int) -> Iterator[_Rectangle]:
        """Places for a label of a box, best first: above, below, beside, within, then further off."""
        lefts = [box.left, box.right - width, (box.left + box.right - width) // 2]
        lefts = [max(0, min(left, self.image.width - width)) for left in lefts]
        for step in range(8):
            off = step * (height + self._gap)
            for left in lefts:
                for top in (box.top - height - self._gap - off, box.bottom + self._gap + off):
                    yield _Rectangle(left, top, left + width, top + height)
            for left in (box.right + self._gap, box.left - width - self._gap):
                for top in (box.top + off, box.bottom - height - off):
                    yield _Rectangle(left, top, left + width, top + height)
            top = box.top + self._line + off
            if top + height > box.bottom - self._line:
                continue
            for left in (box.left + self._line, box.right - width - self._line):
                left = max(0, min(left, self.image.width - width))
                yield _Rectangle(left, top, left + width, top + height)
        for left in lefts:  # a box as large as the image
            top = max(0, min(box.top, self.image.height - height))
            yield _Rectangle(left, top, left + width, top + height)

    def _corners(self, width: int, height: int) -> Iterator[_Rectangle]:
        floor = min((taken.top for taken in self._taken), default=self.image.height)
        for top in (self._gap, floor - height - self._gap, 0):
            for left in (self._gap, self.image.width - width - self._gap, 0):
                yield _Rectangle(left, top, left + width, top + height)

    def _lead(self, place: _Rectangle, box: _Rectangle, colour: _Colour) -> None:
        """A line from a label that stands off to the nearest point of its box."""

        def nearest(low: int, high: int, other_low: int, other_high: int) -> tuple[int, int]:
            if high <= other_low:
                return high, other_low
            if other_high <= low:
                return low, other_high
            return (middle := (max(low, other_low) + min(high, other_high)) // 2), middle

        start_x, end_x = nearest(place.left, place.right, box.left, box.right)
        start_y, end_y = nearest(place.top, place.bottom, box.top, box.bottom)
        self._draw.line((start_x, start_y, end_x, end_y), fill=(*colour, 255), width=self._line)

    def _outline(self, outer: _Rectangle, inset: int, thickness: int, colour: tuple[int, ...]) -> None:
        left, top, right, bottom = (
            outer.left + inset,
            outer.top + inset,
            outer.right - inset,
            outer.bottom - inset,
        )
        if right <= left or bottom <= top:
            return
        # Four bars, corners once each: translucent colours must not add up
        self._fill(_Rectangle(left, top, right, min(bottom, top + thickness)), colour)
        self._fill(_Rectangle(left, max(top + thickness, bottom - thickness), right, bottom), colour)
        inner_top, inner_bottom = top + thickness, bottom - thickness
        self._fill(_Rectangle(left, inner_top, min(right, left + thickness), inner_bottom), colour)
        self._fill(
            _Rectangle(max(left + thickness, right - thickness), inner_top, right, inner_bottom), colour
        )

    def _fill(self, area: _Rectangle, colour: tuple[int, ...]) -> None:
        if area.right > area.left and area.bottom > area.top:
            self._draw.rectangle((area.left, area.top, area.right - 1, area.bottom - 1), fill=colour)

    def _text_size(self, text: str, font: _Font) -> tuple[int, int]:
        """Width of the text and height of a line, in pixels."""
        left, _, right, _ = self._draw.textbbox((0, 0), text, font=font)
        _, top, _, bottom = self._draw.textbbox((0, 0), "Ag", font=font)
        return math.ceil(right - left), math.ceil(bottom - top)

    def _write(self, text: str, left: int, top: int, colour: _Colour, font: _Font) -> None:
        offset = self._draw.textbbox((0, 0), "Ag", font=font)[1]
        self._draw.text((left, top - offset), text, fill=(*colour, 255), font=font)


def _pixels_of(box: Box) -> _Rectangle:
    """The pixels that a box touches; its coordinates are edges."""
    return _Rectangle(
        math.floor(box.x_min), math.floor(box.y_min), math.ceil(box.x_max), math.ceil(box.y_max)
    )


def _font(size: float) -> ImageFont.FreeTypeFont:
    """Pillow's own font (Aileron), so that no font need be installed."""
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise RuntimeError("Pillow was built without FreeType: it cannot write labels")
    return font
