"""The plot of a soak: a row for each part, a column for each figure, a line for each process."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from tests.faults.vitals import MEMORY, Sample, by_process, windows

_FIGURES: Final = (
    (MEMORY, "memory of its own, MB", 1e6),
    ("threads", "threads", 1),
    ("files", "open files", 1),
)
_COLOURS: Final = ("#1b4965", "#d1495b", "#66a182", "#edae49", "#6a4c93")
_QUIET: Final = "#8a8f98"


def draw(samples: Sequence[Sample], file: Path) -> None:
    """Writes the plot as PNG.

    Args:
        samples: Of the whole run.
        file: Where.
    """
    processes, whole = by_process(samples), max(sample.at for sample in samples)
    parts = list(dict.fromkeys(name.partition(" ›")[0] for name in processes))
    with_connections = [part for part in parts if any(one.connections for one in processes[part])]
    rows = [part for part in parts if part not in with_connections]
    figure, grid = plt.subplots(
        len(rows) + bool(with_connections), 3, figsize=(10, 1.35 * (len(rows) + 1) + 0.6), sharex=True
    )
    for part, axes in zip(rows, grid, strict=False):
        own = [name for name in processes if name.partition(" ›")[0] == part]
        for axis, (key, _, scale) in zip(axes, _FIGURES, strict=True):
            for name, colour in zip(own, _COLOURS * 9, strict=False):
                _line(axis, processes[name], key, scale, colour, whole)
            _dress(axis)
        axes[0].set_ylabel(part, rotation=0, ha="right", va="center", fontsize=9, fontweight="bold")
    for part in with_connections:
        _line(grid[-1][0], processes[part], "connections", 1, _COLOURS[0], whole)
        _dress(grid[-1][0])
        grid[-1][0].set_ylabel(f"{part}:\nconnections", rotation=0, ha="right", va="center", fontsize=9)
        for axis in grid[-1][1:]:
            axis.set_axis_off()
    for axis, (_, title, _) in zip(grid[0], _FIGURES, strict=True):
        axis.set_title(title, fontsize=9, loc="left")
    for axis in (grid[-1][0], grid[-2][1], grid[-2][2]):
        axis.set_xlabel("minutes", fontsize=8)
        axis.tick_params(labelbottom=True)
    figure.text(
        0.99,
        0.012,
        "pale: each sample; dark: median of a thirtieth of the run; blue: the part, others: what it started",
        ha="right",
        fontsize=7,
        color=_QUIET,
    )
    figure.tight_layout(h_pad=0.4)
    figure.savefig(file, dpi=90)
    plt.close(figure)


def _line(axis: Axes, samples: Sequence[Sample], key: str, scale: float, colour: str, whole: float) -> None:
    axis.plot(
        [sample.at / 60 for sample in samples],
        [getattr(sample, key) / scale for sample in samples],
        color=colour,
        alpha=0.25,
        linewidth=0.7,
    )
    medians = {at: statistics.median(values) for at, values in windows(samples, key, whole).items()}
    axis.plot(
        [at / 60 for at in medians],
        [value / scale for value in medians.values()],
        color=colour,
        linewidth=1.5,
    )


def _dress(axis: Axes) -> None:
    axis.set_ylim(0, axis.get_ylim()[1] * 1.15)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    axis.tick_params(labelsize=7, colors=_QUIET, labelcolor="black")
    axis.yaxis.set_major_locator(plt.MaxNLocator(3, integer=True))
