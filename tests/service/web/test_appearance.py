"""The style sheet's colours can be read (WCAG 2.2, 1.4.3 and 1.4.11) in light and dark; templates compile."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest
from jinja2 import Environment, PackageLoader

from litegpt.vocabulary import LABELS

CSS = (files("service.web") / "static" / "style.css").read_text(encoding="utf-8")

TEXT = [
    *[(ink, ground) for ink in ("ink", "faint", "link") for ground in ("ground", "surface", "hover")],
    *[("ink", ground) for ground in ("plain-ground", "field")],
    ("faint", "field"),
    *[("faint", "hover"), ("head-ink", "head"), ("head-faint", "head"), ("accent-ink", "accent")],
    *[(tone, f"{tone}-ground") for tone in ("good", "busy", "bad")],
    ("bad", "surface"),
]
"""What is written on what: 4.5 to 1."""

SHAPES = [("field-line", "field"), ("field-line", "surface"), ("accent", "surface"), ("accent", "ground")]
"""Edges of fields and the ring of the focus: 3 to 1."""


def _colours(scheme: str) -> dict[str, str]:
    light, dark = (
        dict(re.findall(r"--([\w-]+): (#\w{6});", block))
        for block in re.findall(r":root \{(.*?)\}", CSS, re.DOTALL)
    )
    return light if scheme == "light" else light | dark


def _luminance(colour: str) -> float:
    """Relative luminance, as WCAG defines it."""
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def _contrast(one: str, other: str) -> float:
    lighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def test_the_measure_itself() -> None:
    assert _contrast("#000000", "#ffffff") == pytest.approx(21)
    assert _contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("ink", "ground"), TEXT)
def test_text_can_be_read(scheme: str, ink: str, ground: str) -> None:
    colours = _colours(scheme)
    assert _contrast(colours[ink], colours[ground]) >= 4.5


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("line", "ground"), SHAPES)
def test_edges_can_be_seen(scheme: str, line: str, ground: str) -> None:
    colours = _colours(scheme)
    assert _contrast(colours[line], colours[ground]) >= 3


def test_every_colour_that_is_used_is_set_in_both_schemes() -> None:
    used = set(re.findall(r"var\(--([\w-]+)\)", CSS))
    assert used == set(_colours("light"))
    _, dark = re.findall(r":root \{(.*?)\}", CSS, re.DOTALL)
    assert set(re.findall(r"--([\w-]+):", dark)) == used


def test_every_label_can_be_switched_off() -> None:
    rules = {int(number) for number in re.findall(r"\.toggle\.label-(\d+):not", CSS)}
    assert rules == set(range(len(LABELS) + 1))


def test_every_template_is_one() -> None:
    templates = Environment(loader=PackageLoader("service.web"), autoescape=True)
    ours = ("moment", "clock", "age", "since", "number", "size", "day", "tone", "colour", "label_number")
    templates.filters |= dict.fromkeys(ours, str)
    names = templates.list_templates()
    assert {"page.html", "study.html"} <= set(names)
    for name in names:
        templates.get_template(name)
