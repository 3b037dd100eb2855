"""Readings on disk, image by image, so that a run can be broken off and gone on with.

A folder holds

- ``run.json``        which model read what (``Run``)
- ``readings.jsonl``  an image a line: its name, file, truth, and the whole reading (``Examined``)
- ``images/``         small pictures of the images, where they were asked for
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from pydantic import TypeAdapter, ValidationError

from litegpt.findings import Reading
from litegpt.identity import ModelIdentity, model_folder, read_identity
from training.errors import TrainingError
from training.evaluation.statements import Case

RUN_NAME: Final = "run.json"
READINGS_NAME: Final = "readings.jsonl"
IMAGES_NAME: Final = "images"

DEMONSTRATION: Final = (
    "PHANTOM: a demonstration model, trained on synthetic images. Nothing here says anything about patients."
)
SYNTHETIC: Final = "PHANTOM: synthetic images. Nothing here says anything about patients."


@dataclass(frozen=True, slots=True)
class Run:
    """Which model read what; readings of two runs are never mixed.

    Attributes:
        model: Whose readings they are.
        weights: SHA-256 of the model's ``config.json``, which holds those of its other files.
        dataset: Name in the catalogue, or ``fresh phantoms``.
        split: Which of its images.
        truth: The rules by which readers agreed, or how the truth was made.
    """

    model: ModelIdentity
    weights: str
    dataset: str
    split: str
    truth: str

    @property
    def warning(self) -> str | None:
        """What must stand over all that is shown of the run, if anything."""
        if self.model.demonstration:
            return DEMONSTRATION
        return SYNTHETIC if "phantoms" in self.dataset.lower() else None

    @property
    def title(self) -> str:
        """Model and data in a line for a person."""
        return f"{self.model.id} {self.model.version} on {self.dataset}, {self.split}"


@dataclass(frozen=True, slots=True)
class Examined:
    """An image, what is true of it, and what a model made of it.

    Attributes:
        image_id: The test set's own name of it.
        file: Its file, if it has one.
        picture: Path of its small picture within the folder, if there is one.
        case: What the measures compare with.
        reading: Of the model; its ``failure`` also says why an image could not be read.
    """

    image_id: str
    file: str | None
    picture: str | None
    case: Case
    reading: Reading


_RUN: Final = TypeAdapter(Run)
_EXAMINED: Final = TypeAdapter(Examined)


def run_of(model: str | Path, dataset: str, split: str, truth: str) -> Run:
    """A run of this model.

    Raises:
        ModelError: If it is not a model folder.
    """
    config = (model_folder(model) / "config.json").read_bytes()
    return Run(read_identity(model), hashlib.sha256(config).hexdigest(), dataset, split, truth)


class Journal:
    """The readings of one run in one folder; used with ``with``."""

    def __init__(self, folder: Path, run: Run) -> None:
        """Makes the folder, or goes on with what is there.

        Raises:
            TrainingError: If the folder holds another run, or cannot be read.
        """
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / RUN_NAME).exists():
            _require_same(read_run(folder), run, folder)
        else:
            (folder / RUN_NAME).write_bytes(_RUN.dump_json(run, indent=1))
        _cut_torn_line(folder / READINGS_NAME)
        self._known = {one.image_id: one for one in read_readings(folder)}
        self._file = (folder / READINGS_NAME).open("ab")

    @property
    def known(self) -> Mapping[str, Examined]:
        """What was read before, by the image's name."""
        return self._known

    def add(self, one: Examined) -> None:
        """Writes a reading; it is safe from then on."""
        self._file.write(_EXAMINED.dump_json(one) + b"\n")
        self._file.flush()
        self._known[one.image_id] = one

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def read_run(folder: Path) -> Run:
    """Which run a folder holds.

    Raises:
        TrainingError: If it holds none.
    """
    file = folder / RUN_NAME
    try:
        return _RUN.validate_json(file.read_bytes())
    except OSError as error:
        raise TrainingError(f"{file} cannot be read: {error.strerror or error}") from None
    except ValidationError as error:
        raise TrainingError(f"{file} is not the {RUN_NAME} of an evaluation: {_first(error)}") from None


def read_readings(folder: Path) -> list[Examined]:
    """The readings in a folder, sorted by the images' names; of one image the last.

    Raises:
        TrainingError: If a line is not one.
    """
    file = folder / READINGS_NAME
    examined: dict[str, Examined] = {}
    for number, line in enumerate(file.read_bytes().splitlines() if file.exists() else [], start=1):
        try:
            one = _EXAMINED.validate_json(line)
        except ValidationError as error:
            raise TrainingError(f"{file}:{number}: not a reading: {_first(error)}") from None
        examined[one.image_id] = one
    return [examined[image_id] for image_id in sorted(examined)]


def _require_same(before: Run, now: Run, folder: Path) -> None:
    for name, value in _told(now).items():
        if (found := _told(before)[name]) != value:
            words = f"{folder} holds another run, with {name} {found} and not {value}"
            raise TrainingError(f"{words}: choose another --out")


def _told(run: Run) -> dict[str, str]:
    return {**asdict(run), "model": f"{run.model.id} {run.model.version}"}


def _cut_torn_line(file: Path) -> None:
    """Takes away a last line that a killed run could not end."""
    if not file.exists():
        return
    with file.open("r+b") as readings:
        content = readings.read()
        readings.truncate(content.rfind(b"\n") + 1)


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"]))
    return f"{place}: {first['msg']}" if place else str(first["msg"])
