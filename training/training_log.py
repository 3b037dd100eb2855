"""How a run goes: a CSV file for everybody, and the same for TensorBoard."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from training.complete_file import complete_file
from training.run_folder import RunFolder

LOG_STEPS = 20
"""A row holds the means over so many steps."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is, told after each step.

    Attributes:
        stage: Its name.
        step, steps: Taken so far, and of the whole run.
        images: Learnt from so far.
        seconds: Spent so far.
        rate: Learning rate of this step.
        loss: Weighted sum of this step's losses.
        losses: This step's losses by task, unweighted.
        gradient_norm: Of all gradients, before clipping.
    """

    stage: str
    step: int
    steps: int
    images: int
    seconds: float
    rate: float
    loss: float
    losses: dict[str, float]
    gradient_norm: float


class TrainingLog:
    """Writes rows; those after the step that a run goes on from are taken out first."""

    def __init__(self, folder: RunFolder, tasks: Sequence[str], *, after_step: int) -> None:
        """Args:
        folder: The run's.
        tasks: Names of the losses.
        after_step: Steps that the run has taken already.
        """
        self._columns = [
            "step",
            "images",
            "seconds",
            "rate",
            "loss",
            *tasks,
            "gradient_norm",
            "validation_loss",
        ]
        kept = _rows_until(folder.log, after_step)
        self._file = folder.log.open("w", newline="", encoding="utf-8")
        self._writer = csv.DictWriter(self._file, self._columns, lineterminator="\n")
        self._writer.writeheader()
        self._writer.writerows(kept)
        self._file.flush()
        self._board = SummaryWriter(folder.tensorboard, purge_step=after_step + 1)
        self._recent: list[Progress] = []

    def step(self, progress: Progress) -> None:
        """Takes note of a step."""
        self._recent.append(progress)
        if len(self._recent) < LOG_STEPS and progress.step < progress.steps:
            return
        means = {name: fmean(one.losses[name] for one in self._recent) for name in progress.losses}
        means["loss"] = fmean(one.loss for one in self._recent)
        means["gradient_norm"] = fmean(one.gradient_norm for one in self._recent)
        self._recent.clear()
        for name, value in {**means, "rate": progress.rate}.items():
            self._board.add_scalar(f"train/{name}", value, progress.step)
        self._write(progress, {"rate": f"{progress.rate:.3e}", **{n: f"{v:.4f}" for n, v in means.items()}})

    def validation(self, progress: Progress, loss: float) -> None:
        """Takes note of a validation, in a row of its own."""
        self._board.add_scalar("validation/loss", loss, progress.step)
        self._write(progress, {"validation_loss": f"{loss:.4f}"})

    def _write(self, progress: Progress, values: dict[str, Any]) -> None:
        place = {"step": progress.step, "images": progress.images, "seconds": f"{progress.seconds:.1f}"}
        self._writer.writerow({**place, **values})
        self._file.flush()

    def close(self) -> None:
        """Closes both."""
        self._file.close()
        self._board.close()


def join_logs(runs: Sequence[RunFolder], file: Path) -> None:
    """Writes the logs of runs that followed each other as one; ``stage`` tells their folders' names."""
    rows = []
    for run in runs:
        with run.log.open(newline="", encoding="utf-8") as log:
            rows += [{"stage": run.path.name, **row} for row in csv.DictReader(log)]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with complete_file(file) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as joined:
        writer = csv.DictWriter(joined, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _rows_until(log: Path, step: int) -> list[dict[str, str]]:
    if not log.is_file():
        return []
    with log.open(newline="", encoding="utf-8") as file:
        return [
            row
            for row in csv.DictReader(file)
            if (row.get("step") or "").isdigit() and int(row["step"]) <= step
        ]
