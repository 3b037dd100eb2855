"""Runs a study: one shared start, then each row with each seed; what is done is not done again."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import torch

from litegpt.cache_folder import default_cache_folder
from litegpt.errors import LiteGPTError, one_line
from training.architecture import PAIR
from training.dataset_course import DatasetCourse
from training.errors import TrainingError
from training.loop import Report, never
from training.peak_memory import PeakMemory
from training.phantom_model import scaled
from training.recipe import Recipe, read_recipe
from training.run_folder import RunFolder, model_of
from training.stage import PHANTOMS, Material, starting_model, train_stage
from training.study.cost import flops_per_image, highest_ever, trained_parameters
from training.study.figures import figures_of, require_there
from training.study.outcome import RESULT, Outcome
from training.study.plan import Plan, Row, Step
from training.study.zeroed import engine_without

logger = logging.getLogger(__name__)

START: Final = "start"
READINGS: Final = "readings"
"""Folder of a run with what its model said of each image, an evaluation that ``report`` can show."""

PEAK: Final = "peak_bytes"
"""File of a run with the most memory that any of its sittings used."""


class StoppedError(Exception):
    """Somebody asked the study to stop; all is saved."""


class LeftOutError(TrainingError):
    """What the row needs is not on this machine."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of a row, ready to be run."""

    folder: Path
    recipe: Recipe
    start: Path | None


class Study:
    """A study in its folder: ``start/`` (one for each pair of encoders), and ``ROW/seed-N/``."""

    def __init__(
        self,
        plan: Plan,
        out: Path,
        *,
        factor: float = 1.0,
        device: str = "auto",
        report: Report,
        stop: Callable[[], bool] = never,
    ) -> None:
        """Args:
        plan: What to do.
        out: The study's folder.
        factor: How many steps, against the recipes.
        device: ``cpu``, or ``auto`` for a GPU where there is one.
        report: Told after each step of training.
        stop: Asked after each step whether to stop.
        """
        self._plan, self._out, self._factor = plan, out, factor
        self._device, self._report, self._stop = device, report, stop
        self._computes_on = "cuda" if device == "auto" and torch.cuda.is_available() else "cpu"

    def run(self, rows: Sequence[Row]) -> Iterator[Outcome]:
        """Each row with each seed, one after the other; one that fails does not keep the others up.

        Raises:
            StoppedError: If somebody asked to stop.
            TrainingError: If what the models are measured on is not there.
        """
        require_there(self._plan.examination)
        for row in rows:
            for seed in self._plan.seeds:
                try:
                    yield self._outcome(row, seed)
                except LeftOutError as error:
                    yield Outcome(row.name, seed, {}, failure=str(error), left_out=True)
                except (TrainingError, LiteGPTError, OSError, RuntimeError) as error:
                    # PyTorch says with RuntimeError that memory is out or that weights do not fit.
                    known = isinstance(error, (TrainingError, LiteGPTError))
                    logger.warning("%s, seed %d: %s", row.name, seed, error, exc_info=not known)
                    yield Outcome(row.name, seed, {}, failure=one_line(error))

    def done(self, rows: Sequence[Row]) -> list[Outcome]:
        """The outcomes that are there.

        Raises:
            TrainingError: If one of them is of another plan or factor.
        """
        known = (self._known(row, seed) for row in rows for seed in self._plan.seeds)
        return [outcome for outcome in known if outcome is not None]

    def _known(self, row: Row, seed: int) -> Outcome | None:
        folder = self._folder(row, seed)
        outcome = Outcome.read(folder)
        if outcome is not None and outcome.asked != self._asked(row, seed):
            raise TrainingError(
                f"{folder / RESULT} is of another plan or --factor: remove {folder}, or choose another --out"
            )
        return outcome

    def _asked(self, row: Row, seed: int) -> str:
        """Differs for runs that could have different figures."""
        start = self._given_start(row)
        before = () if start else self._plan.pretraining
        of = None if row.of is None else self._asked(self._plan.row(row.of), seed)
        values = {
            "start": str(start),
            "pretraining": [self._recipe(step, self._plan.seeds[0]).digest for step in before],
            "stages": [self._recipe(step, seed).digest for step in row.stages],
            "row": row.model_dump(mode="json", include={"encoders", "dataset", "data", "zeroed"}),
            "of": of,
            "examination": self._plan.examination.model_dump(mode="json"),
        }
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]

    def _folder(self, row: Row, seed: int) -> Path:
        return self._out / row.name / f"seed-{seed}"

    def _outcome(self, row: Row, seed: int) -> Outcome:
        folder = self._folder(row, seed)
        if (known := self._known(row, seed)) is not None:
            return known
        folder.mkdir(parents=True, exist_ok=True)
        if row.of is not None:
            model = self._last_model(self._plan.row(row.of), seed)
            outcome = Outcome(row.name, seed, self._figures(model, row.zeroed, folder))
        else:
            material = _material(row)
            stages = self._stages(row, seed)
            memory = self._learn(stages, material, folder)
            figures = self._figures(self._last_model(row, seed), (), folder)
            outcome = replace(
                self._costs(row, seed, stages, material), figures=figures, peak_memory_bytes=memory
            )
        outcome = replace(outcome, asked=self._asked(row, seed))
        outcome.write(folder)
        return outcome

    def _learn(self, stages: Sequence[Stage], material: Material, folder: Path) -> int | None:
        """Trains the stages; returns the peak of memory over all sittings, as far as they told it."""
        peak = PeakMemory(self._computes_on)
        peak.reset()
        try:
            for stage in stages:
                self._train(stage, material)
        finally:
            memory = highest_ever(folder / PEAK, peak.bytes())
        return memory

    def _train(self, stage: Stage, material: Material = PHANTOMS, encoders: Sequence[str] = PAIR) -> None:
        finished = train_stage(
            stage.folder,
            stage.recipe,
            start=stage.start,
            material=material,
            resume=True,
            device=self._device,
            encoders=encoders,
            report=self._report,
            stop=self._stop,
        )
        if not finished:
            raise StoppedError

    def _given_start(self, row: Row) -> Path | None:
        """The model folder that a row starts from; None: what the study's pre-training makes."""
        return row.start or (self._plan.start if row.encoders is None else None)

    def _start(self, row: Row) -> Path:
        """Where a row starts, made where it is missing; rows with other encoders share one of their own."""
        if row.start is not None and not row.start.exists():
            raise LeftOutError(f"{row.start} is not there")
        if (given := self._given_start(row)) is not None:
            return given
        chosen = tuple(row.encoders or PAIR)
        place = self._out / (START if chosen == PAIR else f"{START}-{'-'.join(chosen)}")
        stages = self._chain(self._plan.pretraining, place, None, self._plan.seeds[0])
        if not stages:
            raise TrainingError("the study has no pretraining, so encoders of its own cannot be had")
        for stage in stages:
            self._train(stage, encoders=chosen)
        return stages[-1].folder

    def _stages(self, row: Row, seed: int) -> list[Stage]:
        return self._chain(row.stages, self._folder(row, seed), self._start(row), seed)

    def _chain(self, steps: Sequence[Step], place: Path, start: Path | None, seed: int) -> list[Stage]:
        """Stages that follow each other, each from the one before."""
        stages = []
        for number, step in enumerate(steps, start=1):
            recipe = self._recipe(step, seed)
            folder = place / f"{number}-{recipe.stage}"
            stages.append(Stage(folder, recipe, start))
            start = folder
        return stages

    def _recipe(self, step: Step, seed: int) -> Recipe:
        """A step's recipe with its values, made shorter or longer after them: they are scaled too."""
        return scaled(read_recipe(step.recipe).with_values({**step.values, "seed": seed}), self._factor)

    def _last_model(self, row: Row, seed: int) -> Path:
        stages = self._stages(row, seed)
        return model_of(stages[-1].folder if stages else self._start(row))

    def _costs(self, row: Row, seed: int, stages: Sequence[Stage], material: Material) -> Outcome:
        """What the row's own stages took."""
        images, seconds, flops, trained = 0, 0.0, 0.0, 0
        for stage in stages:
            state = RunFolder(stage.folder).state()
            if state is None:
                continue
            loaded = starting_model(stage.start, stage.recipe)
            lessons = material.course(loaded, stage.recipe).lessons
            images += state.images
            seconds += state.seconds
            flops += state.images * flops_per_image(loaded, stage.recipe, lessons)
            trained = max(trained, trained_parameters(loaded, stage.recipe))
        mean = flops / images if images else 0.0
        return Outcome(
            row.name,
            seed,
            {},
            trained_parameters=trained,
            images=images,
            seconds=seconds,
            flops_per_image=mean,
        )

    def _figures(self, model: Path, zeroed: Sequence[int], folder: Path) -> dict[str, float | None]:
        engine = engine_without(model, zeroed, device=self._computes_on)
        figures = figures_of(engine, model, self._plan.examination, folder / READINGS, self._stop)
        if figures is None:
            raise StoppedError
        return figures


def _material(row: Row) -> Material:
    if row.dataset is None or row.data is None:
        return PHANTOMS
    if not row.data.exists():
        raise LeftOutError(f"{row.data} is not there")
    course = DatasetCourse(row.dataset, row.data, default_cache_folder())
    return Material(f"{row.dataset} {row.data.resolve()}", course)
