"""What came of one run of a study, kept as a JSON file beside it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Final

from scipy.stats import t as student

from training.complete_file import complete_file
from training.errors import TrainingError

RESULT: Final = "result.json"

FIGURES: Final[Mapping[str, tuple[str, ...]]] = {
    "local F1": ("classification", "exact", "local", "macro", "f1"),
    "diagnoses F1": ("classification", "exact", "diagnoses", "macro", "f1"),
    "Accuracy@0.3": ("accuracy", "plain", "0.3"),
    "Accuracy@0.5": ("accuracy", "plain", "0.5"),
    "precision@0.5": ("box precision", "0.5"),
    "mAP@0.4": ("map", "0.4"),
    "Finding": ("recall", "Finding"),
    "No finding": ("recall", "No finding"),
}
"""By their names in the table, the measures (``training.evaluation``) that rows are compared by."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One row with one seed.

    Attributes:
        row: Its name.
        seed: Of its stages.
        figures: What was measured, by name; None where it is not defined.
        trained_parameters: Weights that learn, the most of its stages.
        images: Learnt from, in its own stages.
        seconds: Spent learning.
        flops_per_image: Of learning from one image, the mean over its stages by images.
        peak_memory_bytes: While learning.
        failure: Why there are no figures; empty where there are.
        left_out: Whether that is no fault: something that the row needs is not on this machine.
        asked: Digest of all that the plan asked of the run.
    """

    row: str
    seed: int
    figures: Mapping[str, float | None]
    trained_parameters: int = 0
    images: int = 0
    seconds: float = 0.0
    flops_per_image: float = 0.0
    peak_memory_bytes: int | None = None
    failure: str = ""
    left_out: bool = False
    asked: str = ""

    def write(self, folder: Path) -> None:
        """Into its folder, whole or not at all."""
        with complete_file(folder / RESULT) as unfinished:
            unfinished.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Outcome | None:
        """From its folder; None where it is not done.

        Raises:
            TrainingError: If the file is none that this version wrote.
        """
        file = folder / RESULT
        if not file.is_file():
            return None
        try:
            return cls(**json.loads(file.read_text(encoding="utf-8")))
        except (ValueError, TypeError):
            raise TrainingError(f"{file} is no result of a study") from None


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over seeds with its 95 % interval.

    Attributes:
        mean: Of those seeds that have a value; None without any.
        half_width: Of Student's t-interval over the seeds; None with fewer than two.
    """

    mean: float | None
    half_width: float | None

    def __str__(self) -> str:
        if self.mean is None:
            return "–"
        return f"{self.mean:.3f}" + ("" if self.half_width is None else f" ± {self.half_width:.3f}")


def interval(values: Sequence[float | None]) -> Interval:
    """Over the seeds of a row: it tells how much the training's chance matters, not the test set's."""
    known = [value for value in values if value is not None and not math.isnan(value)]
    if not known:
        return Interval(None, None)
    if len(known) < 2:
        return Interval(known[0], None)
    factor = float(student.ppf(0.975, len(known) - 1))
    return Interval(fmean(known), factor * stdev(known) / math.sqrt(len(known)))
