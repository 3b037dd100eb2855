"""The folder of a run: what it was asked for, how it goes, what came of it, and how to go on.

    run.yaml          the recipe with all defaults, the model it started from, the data
    log.csv           losses and rate while training, and the validation loss
    tensorboard/      the same for TensorBoard
    state.pt          everything to go on from: the weights that learn, in full, and the optimisers
    last/, best/      model folders: as of the last checkpoint, and of the lowest validation loss
    dense_head.pt     the dense task's head, where the recipe has it
    bad_batch.pt      only where a loss was no number: the batch that made it

``state.pt`` alone decides where a run goes on. All files appear whole or not at all.
"""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
import yaml

from litegpt.model_folder import LiteGPT
from training.complete_file import complete_file
from training.errors import TrainingError
from training.recipe import Recipe, recipe_of

RUN: Final = "run.yaml"
STATE: Final = "state.pt"
LOG: Final = "log.csv"
TENSORBOARD: Final = "tensorboard"
LAST: Final = "last"
BEST: Final = "best"
HEAD: Final = "dense_head.pt"
BAD_BATCH: Final = "bad_batch.pt"


@dataclass(frozen=True, slots=True)
class RunState:
    """Where a run stands after a step.

    Attributes:
        step: Steps taken.
        images: Images learnt from.
        seconds: Spent so far, over all sittings.
        best_loss: Lowest validation loss so far.
        trained: The weights that learn, by their names in the learner, in full precision.
        optimisers: Their states.
    """

    step: int
    images: int
    seconds: float
    best_loss: float
    trained: Mapping[str, torch.Tensor]
    optimisers: list[Mapping[str, Any]]


class RunFolder:
    """One run's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def log(self) -> Path:
        """The CSV log."""
        return self.path / LOG

    @property
    def tensorboard(self) -> Path:
        """TensorBoard's folder."""
        return self.path / TENSORBOARD

    def begin(self, recipe: Recipe, start: str, data: str, *, resume: bool) -> None:
        """Prepares the folder for a run, new or to be gone on with.

        Args:
            recipe: What is asked for.
            start: The model that the run starts from.
            data: What it learns from.
            resume: Go on where the folder's run stopped; a folder without one is begun.

        Raises:
            TrainingError: If there is a run and ``resume`` is not asked for, or it is a different one.
        """
        stored = self.path / RUN
        asked = {"recipe": recipe.model_dump(mode="json"), "from": start, "data": data}
        if stored.is_file():
            if not resume:
                raise TrainingError(
                    f"{self.path} holds a run: --resume goes on with it, or choose another --out"
                )
            self._require_same(asked)
        elif self.path.exists() and any(self.path.iterdir()):
            raise TrainingError(f"{self.path} is there and holds no run: choose another --out")
        else:
            self.path.mkdir(parents=True, exist_ok=True)
            _write_whole(stored, yaml.safe_dump(asked, sort_keys=False, allow_unicode=True).encode())

    def recipe(self) -> Recipe:
        """The recipe of the run.

        Raises:
            TrainingError: If the folder holds no run.
        """
        return recipe_of(self._run()["recipe"], str(self.path / RUN))

    def _run(self) -> dict[str, Any]:
        try:
            values = yaml.safe_load((self.path / RUN).read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError, UnicodeDecodeError):
            raise TrainingError(f"{self.path} holds no run that can be read") from None
        if not isinstance(values, dict) or "recipe" not in values:
            raise TrainingError(f"{self.path / RUN} is no record of a run")
        return values

    def _require_same(self, asked: Mapping[str, Any]) -> None:
        stored = self._run()
        before, now = self.recipe(), recipe_of(asked["recipe"], "the recipe")
        if before.digest != now.digest:
            old, new = before.model_dump(mode="json"), now.model_dump(mode="json")
            differing = ", ".join(name for name in new if new[name] != old[name])
            raise TrainingError(f"{self.path} holds a run of another recipe: {differing} differ")
        for name in ("from", "data"):
            if stored.get(name) != asked[name]:
                raise TrainingError(
                    f"{self.path} holds a run with {name} {stored.get(name)}, not {asked[name]}"
                )

    def state(self) -> RunState | None:
        """Where the run stands; None before its first checkpoint.

        Raises:
            TrainingError: If the file is damaged.
        """
        file = self.path / STATE
        if not file.is_file():
            return None
        try:
            return RunState(**torch.load(file, map_location="cpu", weights_only=True))
        except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, TypeError, ValueError) as error:
            raise TrainingError(f"{file} is damaged: {type(error).__name__}") from None

    def save_state(self, state: RunState) -> None:
        """Writes where the run stands; the former state is kept until the new one is safe."""
        values = {name: getattr(state, name) for name in RunState.__slots__}
        self._save(STATE, values)

    def save_head(self, head: torch.nn.Module) -> None:
        """Keeps the dense task's head for a stage that goes on with it."""
        self._save(HEAD, head.state_dict())

    def save_bad_batch(self, values: Mapping[str, Any]) -> Path:
        """Keeps a batch whose loss was no number."""
        self._save(BAD_BATCH, values)
        return self.path / BAD_BATCH

    def _save(self, name: str, values: Mapping[str, Any]) -> None:
        with complete_file(self.path / name) as unfinished:
            torch.save(dict(values), unfinished)
            _make_safe(unfinished)
        _make_safe(self.path)

    def save_model(self, loaded: LiteGPT, name: str) -> None:
        """Writes a model folder in the place of the former one."""
        partial, former = self.path / f"{name}.partial", self.path / f"{name}.former"
        for leftover in (partial, former):
            shutil.rmtree(leftover, ignore_errors=True)
        loaded.save_pretrained(partial)
        place = self.path / name
        if place.exists():
            place.rename(former)
        partial.rename(place)
        shutil.rmtree(former, ignore_errors=True)


def model_of(start: Path) -> Path:
    """The model folder to start from: a run's best, else its last, or the folder itself."""
    for name in (BEST, LAST):
        if (start / RUN).is_file() and (start / name).is_dir():
            return start / name
    return start


def dense_head_of(start: Path) -> Mapping[str, torch.Tensor] | None:
    """The dense head that a run has left beside its model folders."""
    file = start / HEAD
    return torch.load(file, map_location="cpu", weights_only=True) if file.is_file() else None


def _write_whole(file: Path, content: bytes) -> None:
    with complete_file(file) as unfinished:
        unfinished.write_bytes(content)
        _make_safe(unfinished)


def _make_safe(path: Path) -> None:
    """Has the system write a file or folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
