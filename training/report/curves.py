"""The figures of a report: loss, precision over recall, FROC, confusion, calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from training.evaluation.bootstrap import Figures
from training.evaluation.froc import RATES
from training.report.confusion import Confusion
from training.report.drawing import BLUE, COLOURS, GREEN, INK, ORANGE, legend, new_axes, svg
from training.report.precision_recall import PrecisionRecall
from training.report.reliability import Reliability
from training.report.training_log import TrainingLog

_WIDE_RANGE: Final = 20.0
"""Losses whose largest is so many times the smallest are drawn on a logarithmic axis."""

_STEPS: Final = "steps-pre"
"""As average precision counts: each recall with the precision at which it is reached."""

_FEW: Final = 40
"""So few values are marked by dots."""


def losses(log: TrainingLog, name: str) -> Markup:
    """All losses over the course of training, in one picture."""
    figure, axes = new_axes(7.6, 3.4)
    positive = [column[column > 0] for column in log.losses.values()]
    values = np.concatenate(positive) if positive else np.ones(1)
    logarithmic = bool(values.size) and values.max() > _WIDE_RANGE * values.min()
    for colour, (column, curve) in zip(_colours(log.losses), log.losses.items(), strict=True):
        # A task that a stage does not have is written as 0 there
        _line(axes, log, np.where(curve > 0, curve, np.nan) if logarithmic else curve, column, colour)
    if logarithmic:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    _course(axes, log)
    axes.set_ylabel("loss")
    legend(axes)
    return svg(figure, name, "Losses over the course of training")


def course(log: TrainingLog, column: str, name: str) -> Markup:
    """One other column of a log."""
    figure, axes = new_axes(3.6, 2.0)
    _line(axes, log, log.others[column], column, BLUE)
    _course(axes, log, named=False)
    return svg(figure, name, f"{column} over the course of training")


def mean_precision_recall(means: Mapping[str, PrecisionRecall], name: str) -> Markup:
    """Mean curves, each with its average in the legend."""
    figure, axes = new_axes(3.4, 3.1)
    for (title, curve), colour in zip(means.items(), (BLUE, ORANGE), strict=False):
        label = f"{title}: {curve.average:.3f}"
        axes.plot(curve.recall, curve.precision, color=colour, label=label, drawstyle=_STEPS)
    _unit_square(axes)
    axes.set_xlabel("recall")
    axes.set_ylabel("precision")
    legend(axes, place="lower left")
    return svg(figure, name, "Mean precision over recall")


def precision_recall(label: str, curves: Sequence[PrecisionRecall | None], name: str) -> Markup:
    """One label's curves, small: of the label, then of its boxes."""
    figure, axes = new_axes(1.7, 1.45)
    for curve, colour in zip(curves, (BLUE, ORANGE), strict=True):
        if curve is not None:
            axes.plot(curve.recall, curve.precision, color=colour, linewidth=1.6, drawstyle=_STEPS)
    _unit_square(axes)
    axes.set_xticks([0, 0.5, 1], ["0", "", "1"])
    axes.set_yticks([0, 0.5, 1], ["0", "", "1"])
    return svg(figure, name, f"Precision over recall of {label}")


def froc(false: Figures, found: Figures, marks: Mapping[str, float | None], name: str) -> Markup:
    """Sensitivity over false positives per image, with the marks at 1/8 to 8 of them.

    Args:
        false: (limits,) false positives per image.
        found: (limits,) sensitivity.
        marks: Sensitivity by rate, as the measures have it.
        name: Of the figure.
    """
    figure, axes = new_axes(3.4, 3.1)
    least = float(RATES[0]) / 2
    most = max(8.0, float(false.max(initial=0)))
    # Beyond its last box a model finds nothing more
    across = np.concatenate([np.maximum(false, least), [most]])
    axes.step(across, np.concatenate([found, found[-1:]]), where="post", color=BLUE)
    shown = [(float(rate), value) for rate in RATES if (value := marks.get(str(rate))) is not None]
    rates, values = [rate for rate, _ in shown], [value for _, value in shown]
    axes.plot(rates, values, "o", color=ORANGE, markersize=6, clip_on=False)
    axes.set_xscale("log", base=2)
    axes.set_xticks([float(rate) for rate in RATES], [str(rate) for rate in RATES])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(least, most * 1.05)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("false positives per image")
    axes.set_ylabel("sensitivity")
    return svg(figure, name, "FROC: sensitivity over false positives per image")


def confusion_matrix(confusion: Confusion, name: str) -> Markup:
    """Counts in cells, as dark as their share of the row."""
    rows, columns = confusion.counts.shape
    figure, axes = new_axes(2.4 + 0.36 * columns, 1.9 + 0.3 * rows)
    axes.grid(visible=False)
    totals = np.maximum(1, confusion.counts.sum(axis=1, keepdims=True))  # (rows, 1)
    shares = confusion.counts / totals  # (rows, columns)
    for row, column in np.argwhere(confusion.counts > 0):
        right = confusion.true[row] == confusion.said[column]
        colour = GREEN if right else ORANGE
        alpha = 0.12 + 0.55 * shares[row, column]
        place = (column - 0.47, row - 0.46)
        axes.add_patch(Rectangle(place, 0.94, 0.92, facecolor=colour, alpha=alpha, linewidth=0))
        count = str(confusion.counts[row, column])
        axes.text(column, row, count, ha="center", va="center", fontsize=8, color=INK)
    axes.set_xlim(-0.5, columns - 0.5)
    axes.set_ylim(rows - 0.5, -0.5)
    axes.set_xticks(range(columns), confusion.said, rotation=50, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(rows), confusion.true)
    axes.axvline(columns - 1.5, color=INK, linewidth=0.8)
    axes.axhline(rows - 1.5, color=INK, linewidth=0.8)
    axes.set_xlabel("said")
    axes.set_ylabel("true")
    return svg(figure, name, "Which finding is said at the place of which")


def reliability(found: Reliability, name: str, title: str) -> Markup:
    """How often what has a score is true, over the score."""
    figure, axes = new_axes(3.4, 3.1)
    axes.plot([0, 1], [0, 1], color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
    axes.plot(found.scores, found.shares, "o-", color=BLUE, markersize=5, clip_on=False)
    _unit_square(axes)
    axes.set_xlabel("mean score")
    axes.set_ylabel("share that was true")
    return svg(figure, name, title)


def _colours(curves: Mapping[str, object]) -> list[str]:
    return [COLOURS[number % len(COLOURS)] for number in range(len(curves))]


def _line(axes: Axes, log: TrainingLog, curve: Figures, label: str, colour: str) -> None:
    there = np.isfinite(curve)  # (rows,)
    marker = "o" if there.sum() <= _FEW else ""
    heavy = label in ("loss", "validation_loss")
    axes.plot(
        log.progress[there],
        curve[there],
        marker=marker,
        markersize=3,
        color=colour,
        label=label.replace("_", " "),
        linewidth=2.0 if heavy else 1.2,
    )


def _course(axes: Axes, log: TrainingLog, *, named: bool = True) -> None:
    """The axis of progress, with lines where stages begin, and their names."""
    axes.set_xlabel(log.unit)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_xlim(0, float(log.progress.max(initial=1)) * 1.02)
    axes.yaxis.set_minor_formatter(NullFormatter())
    over = axes.get_xaxis_transform()
    for number, (stage, start) in enumerate(log.stages if len(log.stages) > 1 else ()):
        axes.axvline(start, color=INK, linewidth=0.7, linestyle=(0, (2, 3)))
        if named:  # at two heights: stages may be short
            height = 1.01 + 0.055 * (number % 2)
            axes.text(start, height, f" {stage}", transform=over, color=INK, fontsize=8, va="bottom")


def _unit_square(axes: Axes) -> None:
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.02)
