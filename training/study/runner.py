"""Runs a study: one shared start, then each row with each seed; what is done is not done again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import torch

from litegpt.engine import Engine
from litegpt.errors import LiteGPTError
from litegpt.grammar import compile_grammar
from litegpt.model_folder import LiteGPT
from training.architecture import PAIR
from training.cache_folder import default_cache_folder
from training.dataset_course import DatasetCourse
from training.errors import TrainingError
from training.evaluation.phantoms import evaluation, read_phantoms
from training.loop import Report, never
from training.phantom.choice import DRAWN_LABELS
from training.phantom_model import scaled
from training.recipe import Recipe, read_recipe
from training.run_folder import RunFolder, model_of
from training.stage import PHANTOMS, Material, starting_model, train_stage
from training.study.cost import (
    flops_per_image,
    forget_peak_memory,
    peak_memory_bytes,
    trained_parameters,
)
from training.study.outcome import FIGURES, Outcome
from training.study.plan import Plan, Row, Step

logger = logging.getLogger(__name__)

START: Final = "start"


class StoppedError(Exception):
    """Somebody asked the study to stop; all is saved."""


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

    def run(self, rows: Sequence[Row]) -> Iterator[Outcome]:
        """Each row with each seed, one after the other; one that fails does not keep the others up.

        Raises:
            StoppedError: If somebody asked to stop.
        """
        for row in rows:
            for seed in self._plan.seeds:
                try:
                    yield self._outcome(row, seed)
                except (TrainingError, LiteGPTError) as error:
                    logger.warning("%s, seed %d: %s", row.name, seed, error)
                    yield Outcome(row.name, seed, {}, failure=str(error))

    def done(self, rows: Sequence[Row]) -> list[Outcome]:
        """The outcomes that are there."""
        places = [self._folder(row, seed) for row in rows for seed in self._plan.seeds]
        return [outcome for place in places if (outcome := Outcome.read(place)) is not None]

    def _folder(self, row: Row, seed: int) -> Path:
        return self._out / row.name / f"seed-{seed}"

    def _outcome(self, row: Row, seed: int) -> Outcome:
        folder = self._folder(row, seed)
        if (known := Outcome.read(folder)) is not None:
            return known
        folder.mkdir(parents=True, exist_ok=True)
        if row.of is not None:
            model = self._last_model(self._plan.chosen((row.of,))[-1], seed)
            outcome = Outcome(row.name, seed, self._figures(model, row.zeroed))
        else:
            material = _material(row)
            stages = self._stages(row, seed)
            forget_peak_memory()
            for stage in stages:
                self._train(stage, material)
            memory = peak_memory_bytes()
            figures = self._figures(self._last_model(row, seed), ())
            outcome = replace(
                self._costs(row, seed, stages, material), figures=figures, peak_memory_bytes=memory
            )
        outcome.write(folder)
        return outcome

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

    def _start(self, encoders: Sequence[str] | None) -> Path:
        """The shared start, made where it is missing; rows with other encoders share one of their own."""
        if encoders is None and self._plan.start is not None:
            return self._plan.start
        chosen = tuple(encoders or PAIR)
        place = self._out / (START if chosen == PAIR else f"{START}-{'-'.join(chosen)}")
        stages = self._chain(self._plan.pretraining, place, None, self._plan.seeds[0])
        if not stages:
            raise TrainingError("the study has no pretraining, so encoders of its own cannot be had")
        for stage in stages:
            self._train(stage, encoders=chosen)
        return stages[-1].folder

    def _stages(self, row: Row, seed: int) -> list[Stage]:
        return self._chain(row.stages, self._folder(row, seed), self._start(row.encoders), seed)

    def _chain(self, steps: Sequence[Step], place: Path, start: Path | None, seed: int) -> list[Stage]:
        """Stages that follow each other, each from the one before."""
        stages = []
        for number, step in enumerate(steps, start=1):
            recipe = scaled(read_recipe(step.recipe), self._factor)
            recipe = recipe.with_values({**step.values, "seed": seed})
            folder = place / f"{number}-{recipe.stage}"
            stages.append(Stage(folder, recipe, start))
            start = folder
        return stages

    def _last_model(self, row: Row, seed: int) -> Path:
        stages = self._stages(row, seed)
        return model_of(stages[-1].folder if stages else self._start(row.encoders))

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

    def _figures(self, model: Path, zeroed: Sequence[int]) -> dict[str, float | None]:
        """What the model reaches on the study's phantoms."""
        examination = self._plan.examination
        drawn = examination.labels or DRAWN_LABELS
        engine = _engine(model, zeroed)
        stream = read_phantoms(
            engine, examination.images, examination.seed, drawn_labels=drawn, candidates=True
        )
        results = []
        for result in stream:
            if self._stop():
                raise StoppedError
            results.append(result)
        measured = evaluation(results, drawn_labels=drawn)
        return {name: measured.value(*path) for name, path in FIGURES.items()}


def _engine(model: Path, zeroed: Sequence[int]) -> Engine:
    """The model, with some encoders' tokens made zero: what the others know is all it sees."""
    if not zeroed:
        return Engine.load(model, calibrated=False)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    loaded = LiteGPT.from_pretrained(model, device=device, dtype=dtype)
    for place in zeroed:
        if place >= len(loaded.model.encoders):
            raise TrainingError(
                f"zeroed: the model has {len(loaded.model.encoders)} encoders, none is {place}"
            )
        loaded.model.encoders[place].register_forward_hook(_zeros)
    config = loaded.config
    grammar = compile_grammar(
        loaded.tokenizer, budget=config.max_new_tokens, ordered=config.ordered_answers, device=device
    )
    return Engine(loaded, device, grammar, None)


def _zeros(module: torch.nn.Module, given: object, tokens: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(tokens)


def _material(row: Row) -> Material:
    if row.dataset is None or row.data is None:
        return PHANTOMS
    if not row.data.exists():
        raise TrainingError(f"{row.data} is not there: the row is left out")
    course = DatasetCourse(row.dataset, row.data, default_cache_folder())
    return Material(f"{row.dataset} {row.data.resolve()}", course)
