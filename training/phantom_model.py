"""Trains the phantom model from nothing: pre-training, then the paper's two stages, into one model folder."""

from __future__ import annotations

import csv
import dataclasses
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from litegpt.model_folder import LiteGPT, add_adapter
from training.architecture import new_phantom_model
from training.loop import Learner, Progress, run_stage
from training.stages import ADAPTER_STAGES, PRETRAINING_STAGES, STAGES, Stage, scaled

logger = logging.getLogger(__name__)

CHECKPOINT_IMAGES = 6_000
LOG_STEPS = 50
LOG_NAME = "training_log.csv"

Report = Callable[[Progress], None]


def train_phantom_model(
    out: Path, *, seed: int, factor: float = 1.0, minutes: float | None = None, report: Report
) -> None:
    """All stages, into one model folder, which is written anew every few thousand images.

    Args:
        out: The model folder; also gets the training log.
        seed: Decides the first weights and all phantoms.
        factor: How many images, against the recipe.
        minutes: Wall-clock limit over all stages, shared out by their images. The result then depends on the
            machine's speed; without it, only on the seed (and the machine's arithmetic).
        report: Told after each step.
    """
    with TrainingLog(out / LOG_NAME, report) as log:
        _pretrain(out, seed, _planned(PRETRAINING_STAGES, factor, minutes), log)
        for stage in _planned(ADAPTER_STAGES, factor, minutes):
            train_adapter_stage(out, out, stage, seed=seed, report=log)


def pretrain_phantom_model(
    out: Path, *, seed: int, factor: float = 1.0, minutes: float | None = None, report: Report
) -> None:
    """The stages before the paper's own; arguments as of ``train_phantom_model``, the time for these."""
    share = sum(map(_cost, STAGES)) / sum(map(_cost, PRETRAINING_STAGES))
    stages = _planned(PRETRAINING_STAGES, factor, None if minutes is None else minutes * share)
    with TrainingLog(out / LOG_NAME, report) as log:
        _pretrain(out, seed, stages, log)


def _pretrain(out: Path, seed: int, stages: Sequence[Stage], log: TrainingLog) -> None:
    loaded = new_phantom_model(seed)
    learner = Learner(loaded)
    for stage in stages:
        run_stage(learner, stage, seed=seed, report=_Checkpoints(out, loaded, log))
    loaded.save_pretrained(out)


def train_adapter_stage(start: Path, out: Path, stage: Stage, *, seed: int, report: Report) -> None:
    """One of the paper's two stages: LoRA and projection, from one model folder into another."""
    loaded = LiteGPT.from_pretrained(start, merge=False)
    if not loaded.config.has_adapter:
        add_adapter(loaded.model)
    # An operating point belongs to the weights it was measured with.
    config = dataclasses.replace(loaded.config, has_adapter=True, operating_point=None)
    loaded = dataclasses.replace(loaded, config=config)
    run_stage(Learner(loaded), stage, seed=seed, report=report)
    loaded.save_pretrained(out)


class TrainingLog:
    """Passes progress on and writes its means over every 50 steps to a CSV file."""

    def __init__(self, path: Path, report: Report) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("w", newline="", encoding="utf-8")
        self._writer = csv.writer(self._file, lineterminator="\n")
        self._writer.writerow([field.name for field in dataclasses.fields(Progress)])
        self._report = report
        self._recent: list[Progress] = []

    def __call__(self, progress: Progress) -> None:
        self._report(progress)
        if self._recent and self._recent[-1].stage != progress.stage:
            self._recent.clear()
        self._recent.append(progress)
        if len(self._recent) == LOG_STEPS:
            losses = [_mean(self._recent, name) for name in ("loss", "dense", "identify", "vqa")]
            row = [progress.stage, progress.images, progress.total, round(progress.seconds, 1)]
            self._writer.writerow([*row, f"{progress.rate:.2e}", *losses])
            self._file.flush()
            self._recent.clear()

    def __enter__(self) -> TrainingLog:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


class _Checkpoints:
    """Passes progress on and saves the model now and then, so that a stopped run leaves something to use."""

    def __init__(self, out: Path, loaded: LiteGPT, report: Report) -> None:
        self._out = out
        self._loaded = loaded
        self._report = report
        self._next_images = CHECKPOINT_IMAGES

    def __call__(self, progress: Progress) -> None:
        self._report(progress)
        if progress.images >= self._next_images:
            self._loaded.save_pretrained(self._out)
            self._next_images += CHECKPOINT_IMAGES


def _planned(stages: Sequence[Stage], factor: float, minutes: float | None) -> list[Stage]:
    planned = [scaled(stage, factor) for stage in stages]
    if minutes is None:
        return planned
    total = sum(map(_cost, STAGES))
    return [dataclasses.replace(stage, minutes=minutes * _cost(stage) / total) for stage in planned]


def _cost(stage: Stage) -> float:
    """Images, those of stages with frozen encoders at half the price."""
    return stage.images * (1.0 if stage.trains_encoders else 0.5)


def _mean(steps: Sequence[Progress], name: str) -> str:
    return f"{sum(float(getattr(step, name)) for step in steps) / len(steps):.4f}"
