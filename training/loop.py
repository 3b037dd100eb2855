"""The one training loop: any recipe, on a CPU, one GPU, or several processes that share each step.

Everything that a step does follows from the recipe and the step's number: its images (``training.order``),
its dropout and its instructions (seeded by the number). So a run that stops goes on, on a CPU to the bit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

import numpy as np
import torch
from accelerate import Accelerator

from litegpt.model_folder import LiteGPT
from training.batches import Batch, Teaching
from training.course import Course, Supply
from training.errors import TrainingError
from training.learner import DENSE, Learner
from training.optimisers import Optimisers, choose_trained
from training.recipe import Recipe
from training.run_folder import BEST, LAST, RunFolder, RunState
from training.training_log import Progress, TrainingLog

Report = Callable[[Progress], None]

_TOTAL: Final = "total"


@dataclass(slots=True)
class _Standing:
    """Where the run is."""

    step: int = 0
    images: int = 0
    seconds: float = 0.0
    best_loss: float = math.inf


def never() -> bool:
    """Nobody asks the run to stop."""
    return False


class Run:
    """One stage of training, from the first step or from where it stopped."""

    def __init__(
        self,
        loaded: LiteGPT,
        recipe: Recipe,
        course: Course,
        folder: RunFolder,
        *,
        dense_head: Mapping[str, torch.Tensor] | None = None,
        device: str = "auto",
    ) -> None:
        """Args:
            loaded: The model, its adapter unmerged; it is changed in place.
            recipe: How to train it.
            course: What it learns from.
            folder: Where everything goes; its run has been begun.
            dense_head: The dense task's head to go on with.
            device: ``cpu``, or ``auto`` for a GPU where there is one.

        Raises:
            TrainingError: If the recipe does not fit the model or the number of processes.
        """
        self._loaded, self._recipe, self._folder = loaded, recipe, folder
        self._validates = course.validation is not None
        # The learner casts by itself: accelerate keeps one precision for all runs of a process.
        self._accelerator = Accelerator(
            mixed_precision="no", gradient_accumulation_steps=recipe.accumulation, cpu=device == "cpu"
        )
        self._supply = Supply(
            course,
            Teaching.of(loaded, recipe),
            world_size=self._accelerator.num_processes,
            rank=self._accelerator.process_index,
        )
        choose_trained(recipe, loaded.model)
        self._learner = Learner(loaded, recipe)
        if dense_head is not None and self._learner.head is not None:
            self._learner.head.load_state_dict(dense_head)
        if recipe.gradient_checkpointing:
            checkpoint_gradients(loaded)
        self._learner.to(self._accelerator.device)
        self._optimisers = Optimisers(recipe, loaded.model, self._learner.head)
        self.steps = recipe.epochs * (recipe.steps_per_epoch or self._supply.steps_per_epoch)

    def train(self, *, report: Report, stop: Callable[[], bool] = never) -> bool:
        """Trains to the end, or until ``stop`` says so after a step.

        Returns:
            Whether the end was reached. Either way all is saved.

        Raises:
            TrainingError: If a loss or gradient is no number any more; the batch is kept.
        """
        standing = self._resume()
        wrapped = self._accelerator.prepare(self._learner)
        self._learner.train()
        batches = self._supply.batches(standing.step)
        with self._log(standing.step) as log:
            while standing.step < self.steps:
                progress = self._step(wrapped, batches, standing)
                report(progress)
                if log is not None:
                    log.step(progress)
                last = standing.step == self.steps or self._agreed(stop())
                if self._validates and self._is_due("validate", standing):
                    loss = self._validate(standing)
                    if log is not None:
                        log.validation(progress, loss)
                if last or self._is_due("checkpoint", standing):
                    self._save(standing)
                if last:
                    break
        self._learner.eval()
        return standing.step == self.steps

    def _is_due(self, what: Literal["validate", "checkpoint"], standing: _Standing) -> bool:
        recipe = self._recipe
        every = recipe.validate_every_steps if what == "validate" else recipe.checkpoint_every_steps
        return standing.step % every == 0 or standing.step == self.steps

    def _log(self, after_step: int) -> AbstractContextManager[TrainingLog | None]:
        """The log, which one of the processes writes."""
        if not self._accelerator.is_main_process:
            return nullcontext()
        names = [DENSE] if self._recipe.dense else []
        return closing(TrainingLog(self._folder, [*names, *self._recipe.tasks], after_step=after_step))

    def _step(self, wrapped: torch.nn.Module, batches: Iterator[Batch], standing: _Standing) -> Progress:
        """Learns from one step's images."""
        recipe, accelerator = self._recipe, self._accelerator
        begun = time.monotonic()
        sums: dict[str, torch.Tensor] = {}
        for part in range(recipe.accumulation):
            batch = next(batches).to(accelerator.device)
            with accelerator.accumulate(wrapped):
                losses = wrapped(batch, self._seed(standing.step, part))
                loss = self._learner.weighted(losses)
                self._require_number(loss, batch, standing.step)
                accelerator.backward(loss)
            for name, value in {**losses, _TOTAL: loss}.items():
                sums[name] = sums.get(name, torch.zeros_like(value)) + value.detach() / recipe.accumulation
        norm = self._optimisers.clip()
        self._require_number(norm, batch, standing.step)
        rate = self._optimisers.step(standing.step, self.steps)
        means = {name: float(self._mean(value)) for name, value in sums.items()}
        standing.step += 1
        standing.images += recipe.batch_size
        standing.seconds += time.monotonic() - begun
        return Progress(
            stage=recipe.stage,
            step=standing.step,
            steps=self.steps,
            images=standing.images,
            seconds=standing.seconds,
            rate=rate,
            loss=means.pop(_TOTAL),
            losses=means,
            gradient_norm=float(norm),
        )

    def _require_number(self, value: torch.Tensor, batch: Batch, step: int) -> None:
        """Raises:
        TrainingError: On all processes if the value is no number on one of them; that one keeps the batch.
        """
        value = value.detach()
        if math.isfinite(float(self._mean(value))):
            return
        words = f"the loss of stage {self._recipe.stage} is no number any more at step {step}"
        if math.isfinite(float(value)):
            raise TrainingError(f"{words} (in another process)")
        file = self._folder.save_bad_batch(
            {
                "step": step,
                "names": list(batch.names),
                "squares": list(batch.squares),
                "tokens": batch.tokens,
                "answers": dict(batch.answers),
            }
        )
        raise TrainingError(f"{words}; its images are in {file}")

    def _validate(self, standing: _Standing) -> float:
        """The mean loss over the validation images; keeps the model where it is the lowest so far."""
        accelerator, learner = self._accelerator, self._learner
        learner.eval()
        total = torch.zeros(2, device=accelerator.device)  # (sum of losses, images)
        with torch.no_grad():
            for batch in self._supply.validation:
                loss = learner.weighted(learner(batch.to(accelerator.device), self._recipe.seed))
                total += torch.stack(
                    [loss * len(batch.names), torch.tensor(float(len(batch.names))).to(loss)]
                )
        learner.train()
        total = total if accelerator.num_processes == 1 else accelerator.reduce(total, "sum")
        loss_now = float(total[0] / total[1])
        if loss_now < standing.best_loss:
            standing.best_loss = loss_now
            if accelerator.is_main_process:
                self._folder.save_model(self._loaded, BEST)
        return loss_now

    def _seed(self, step: int, part: int) -> int:
        place = (self._recipe.seed, step, part, self._accelerator.process_index)
        return int(np.random.SeedSequence(place).generate_state(1).item())

    def _resume(self) -> _Standing:
        """Puts weights and optimisers back to where the run stopped."""
        state = self._folder.state()
        if state is None:
            return _Standing()
        trained = self._trained()
        if trained.keys() != state.trained.keys():
            raise TrainingError(f"{self._folder.path} holds a run of a model with other weights")
        with torch.no_grad():
            for name, parameter in trained.items():
                parameter.copy_(state.trained[name])
        self._optimisers.load_state(state.optimisers)
        return _Standing(state.step, state.images, state.seconds, state.best_loss)

    def _save(self, standing: _Standing) -> None:
        """Keeps all that it takes to go on, and the model as it is."""
        if not self._accelerator.is_main_process:
            return
        self._folder.save_state(
            RunState(
                step=standing.step,
                images=standing.images,
                seconds=standing.seconds,
                best_loss=standing.best_loss,
                trained={name: parameter.detach() for name, parameter in self._trained().items()},
                optimisers=self._optimisers.state(),
            )
        )
        self._folder.save_model(self._loaded, LAST)
        if self._learner.head is not None:
            self._folder.save_head(self._learner.head)

    def _trained(self) -> dict[str, torch.nn.Parameter]:
        return {name: p for name, p in self._learner.named_parameters() if p.requires_grad}

    def _agreed(self, flag: bool) -> bool:
        """Whether one of the processes says so."""
        return float(self._mean(torch.tensor(float(flag), device=self._accelerator.device))) > 0

    def _mean(self, value: torch.Tensor) -> torch.Tensor:
        """The mean over all processes."""
        if self._accelerator.num_processes == 1:
            return value
        return cast(torch.Tensor, self._accelerator.reduce(value, "mean"))


def checkpoint_gradients(loaded: LiteGPT) -> None:
    """Has the language model keep its layers' inputs alone and compute the rest once more."""
    language_model = cast(Any, loaded.model.language_model)
    # transformers gave it another name in 5.24; PEFT passes both on.
    newer = getattr(language_model, "activation_checkpointing_enable", None)
    (newer or language_model.gradient_checkpointing_enable)({"use_reentrant": False})
