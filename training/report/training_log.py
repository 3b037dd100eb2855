"""What a training run wrote while it ran: a CSV file with a line now and then, in whatever columns it has."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from training.errors import TrainingError

NAMES: Final = ("log.csv", "training_log.csv")

PROGRESS: Final = ("step", "images", "epoch")
"""Columns that tell how far a run is; the first that is there is drawn along the axis."""

_NO_CURVES: Final = (*PROGRESS, "total", "seconds")

_OWN_SCALE: Final = ("rate", "speed", "norm", "memory", "per_second")
"""Parts of the names of columns that are not losses."""

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class TrainingLog:
    """Curves over the course of a run.

    Attributes:
        file: Where they come from.
        unit: What ``progress`` counts: ``step``, ``images``, ``epoch``, or ``row``.
        progress: (rows,) never falling, also where each stage of a run counts anew.
        losses: (rows,) by column, NaN where the file has nothing.
        others: The other numeric columns, which are on scales of their own.
        stages: The names of the stages with the progress at which each begins; empty where there are none.
    """

    file: Path
    unit: str
    progress: Numbers
    losses: Mapping[str, Numbers]
    others: Mapping[str, Numbers]
    stages: Sequence[tuple[str, float]]


def training_log(folder: Path) -> Path | None:
    """The log in a folder of a run, if there is one."""
    return next((folder / name for name in NAMES if (folder / name).is_file()), None)


def read_training_log(file: Path) -> TrainingLog:
    """Reads any CSV file with numbers in it.

    Raises:
        TrainingError: If it cannot be read, or has no row of numbers.
    """
    try:
        with file.open(newline="", encoding="utf-8") as lines:
            rows = list(csv.DictReader(lines))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TrainingError(f"{file} cannot be read: {error}") from None
    names = [name for name in (rows[0] if rows else ()) if name]
    columns = {name: np.array([_number(row.get(name)) for row in rows]) for name in names}
    columns = {name: column for name, column in columns.items() if np.isfinite(column).any()}
    curves = {name: column for name, column in columns.items() if name not in _NO_CURVES}
    if not curves:
        raise TrainingError(f"{file} has no row of numbers to draw")
    unit = next((name for name in PROGRESS if name in columns), "row")
    counted = columns.get(unit, np.arange(len(rows), dtype=np.float64))
    stages = [row.get("stage") or "" for row in rows]
    progress = _going_on(counted, stages)
    return TrainingLog(
        file=file,
        unit=unit,
        progress=progress,
        losses={name: column for name, column in curves.items() if not _has_own_scale(name)},
        others={name: column for name, column in curves.items() if _has_own_scale(name)},
        stages=_stages(stages, progress),
    )


def _number(cell: str | None) -> float:
    try:
        return float(cell or "nan")
    except ValueError:
        return math.nan


def _has_own_scale(name: str) -> bool:
    return any(part in name for part in _OWN_SCALE)


def _going_on(counted: Numbers, stages: Sequence[str]) -> Numbers:
    """Where a count begins anew, it goes on from where it was."""
    filled = np.where(np.isfinite(counted), counted, 0.0)
    steps = np.diff(filled, prepend=0.0)  # (rows,)
    names = np.array(stages)
    anew = np.append(False, names[1:] != names[:-1])  # (rows,)
    return np.cumsum(np.where(anew | (steps < 0), filled, steps))


def _stages(names: Sequence[str], progress: Numbers) -> list[tuple[str, float]]:
    return [
        (name, float(progress[row - 1]) if row else 0.0)
        for row, name in enumerate(names)
        if name and (row == 0 or names[row - 1] != name)
    ]
