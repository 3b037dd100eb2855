"""Figures of matplotlib as SVG inside a page: its colours are the page's, light or dark."""

from __future__ import annotations

import io
import re
from typing import Any, Final, Literal

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK: Final = "#010203"
"""Stands for the page's colour of text."""

GRID: Final = "#040506"
"""Stands for the page's colour of faint lines."""

BLUE: Final = "#2f7fd6"
ORANGE: Final = "#e0700d"
GREEN: Final = "#1f9d6b"
COLOURS: Final = (BLUE, ORANGE, GREEN, "#b457c6", "#c9a200", "#d64545", "#3aa7b8", "#8a8f98")
"""All to be seen on white and on black; the first two are told apart by every colour vision."""

_SETTINGS: Final[dict[Any, Any]] = {
    "svg.fonttype": "path",
    "svg.hashsalt": "litegpt",
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "lines.linewidth": 1.8,
}


def new_axes(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty figure of one pair of axes, in inches, in the page's colours."""
    with mpl.rc_context(_SETTINGS):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.add_subplot()
    figure.patch.set_alpha(0)
    axes.patch.set_alpha(0)
    axes.tick_params(colors=INK, length=3, labelsize=8)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(INK)
        spine.set_linewidth(0.8)
    axes.grid(color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    return figure, axes


def legend(axes: Axes, *, place: Literal["best", "lower left"] = "best") -> None:
    """A legend in the page's colours."""
    shown = axes.legend(loc=place, fontsize=8, labelcolor=INK, framealpha=0, borderaxespad=0.3)
    shown.get_frame().set_linewidth(0)


def svg(figure: Figure, name: str, title: str) -> Markup:
    """A figure as an SVG element.

    Args:
        figure: Drawn with ``INK`` and ``GRID``.
        name: Of letters, digits and hyphens, another one for each figure of a page: ids begin with it.
        title: What it shows, for who cannot see it.
    """
    written = io.StringIO()
    with mpl.rc_context(_SETTINGS):
        figure.savefig(written, format="svg", metadata={"Date": None})
    text = written.getvalue()
    text = text[text.index("<svg") :]
    # What it says of itself, and a style that would be that of the whole page
    text = re.sub(r"<(metadata|style)\b.*?</\1>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", text)
    text = text.replace(INK, "currentColor").replace(GRID, "var(--grid)")
    width, height = figure.get_size_inches() * 72
    head = f'<svg role="img" aria-label="{Markup.escape(title)}" viewBox="0 0 {width:g} {height:g}" '
    text = re.sub(r"<svg\b[^>]*?>", f'{head}xmlns:xlink="http://www.w3.org/1999/xlink">', text, count=1)
    return Markup(text)
