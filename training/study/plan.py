"""What a study does, as a YAML file: the shared start, the seeds, and a row for each thing that is tried."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from training.agreement import BoxRule, LabelRule
from training.datasets.catalogue import DATASETS
from training.errors import TrainingError
from training.evaluation.dataset_subjects import SplitChoice
from training.recipe import RECIPES

_PHANTOMS: Final = 300


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Step(_Section):
    """One stage of a row.

    Attributes:
        recipe: A shipped recipe's name, or a file.
        values: Other values, as ``optimiser.peak: 1e-4``.
    """

    recipe: str
    values: Mapping[str, Any] = {}


class Row(_Section):
    """One thing that is tried.

    Attributes:
        name: Its folder and its line in the table.
        question: What it is to answer.
        stages: From the shared start on; none: the start itself is measured.
        of: Another row, whose models are measured in another way, with ``zeroed``.
        zeroed: Encoders whose tokens are made zero when the model is measured, by their place from 0.
        encoders: Names of the phantom preset's encoders (``training.architecture``), where not the shared
            start's; the row then has a pre-training of its own.
        start: A model folder or run to start from, where not the shared start, as one with other published
            encoders; a row whose start is not there is left out.
        dataset, data: Learn from this dataset instead; a row whose data are not there is left out.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    question: str
    stages: tuple[Step, ...] = ()
    of: str | None = None
    zeroed: tuple[Annotated[int, Field(ge=0)], ...] = ()
    encoders: tuple[str, ...] | None = None
    start: Path | None = None
    dataset: str | None = None
    data: Path | None = None

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.zeroed and self.of is None:
            raise ValueError("zeroed: say with `of` which row's models are measured so")
        if self.of is not None and (self.stages or not self.zeroed):
            raise ValueError("of: the row measures another's models: it has `zeroed` and no stages")
        if self.of is not None and (self.encoders or self.start or self.dataset):
            raise ValueError("of: the row measures another's models: it learns nothing itself")
        if self.start is not None and self.encoders is not None:
            raise ValueError("start: its encoders are those of the model folder; give start or encoders")
        if (self.dataset is None) != (self.data is None):
            raise ValueError("dataset and data: give both")
        return self


class TestImages(_Section):
    """What the models are measured on: phantoms that no training has seen, or a dataset.

    Attributes:
        images: How many phantoms, 300 if it is not said; of a dataset at most so many, chosen by a hash.
        seed: Of phantoms.
        labels: The findings that phantoms can have; by default all.
        dataset, data: A kind of dataset and where it lies, instead of phantoms.
        split: Which of its images.
        boxes, labels_by: How several readers become one truth (``training.agreement``).
    """

    __test__ = False  # for pytest

    images: Annotated[int, Field(ge=1)] | None = None
    seed: Annotated[int, Field(ge=0)] = 999
    labels: tuple[str, ...] | None = None
    dataset: str | None = None
    data: Path | None = None
    split: SplitChoice = "test"
    boxes: BoxRule = "wbf"
    labels_by: LabelRule = "union"

    @property
    def phantoms(self) -> int:
        """How many phantoms."""
        return self.images or _PHANTOMS

    @property
    def title(self) -> str:
        """For the table."""
        if self.dataset is not None:
            most = f", at most {self.images:,} images" if self.images else ""
            return f"{DATASETS[self.dataset].title}, {self.split}{most}"
        return f"{self.phantoms:,} phantoms of seed {self.seed}"

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if (self.dataset is None) != (self.data is None):
            raise ValueError("dataset and data: give both")
        if self.dataset is not None and self.dataset not in DATASETS:
            raise ValueError(f"dataset: {self.dataset} is none of {', '.join(DATASETS)}")
        if self.dataset is not None and self.labels is not None:
            raise ValueError("labels: for phantoms; a dataset has its own")
        return self


class Plan(_Section):
    """A study.

    Attributes:
        title: For the table.
        start: A model folder or run to start from; None: the phantom preset, from nothing.
        pretraining: What makes the shared start, once, with the first seed.
        seeds: Of the rows' stages.
        examination: How each model is measured.
        rows: In the table's order.
    """

    title: str
    start: Path | None = None
    pretraining: tuple[Step, ...] = ()
    seeds: Annotated[tuple[int, ...], Field(min_length=1)] = (0, 1, 2)
    examination: TestImages = TestImages()
    rows: Annotated[tuple[Row, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        names = [row.name for row in self.rows]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(f"rows: {', '.join(sorted(twice))} is there twice")
        for place, row in enumerate(self.rows):
            if row.of is not None and row.of not in names[:place]:
                raise ValueError(f"rows.{place}.of: no row {row.of} comes before {row.name}")
        if self.start is None and not self.pretraining:
            raise ValueError("start or pretraining: the rows start from nothing")
        return self

    def row(self, name: str) -> Row:
        """The row of this name.

        Raises:
            TrainingError: If there is no such row.
        """
        for row in self.rows:
            if row.name == name:
                return row
        names = ", ".join(row.name for row in self.rows)
        raise TrainingError(f"the study has no row {name}: it has {names}")

    def chosen(self, only: tuple[str, ...]) -> tuple[Row, ...]:
        """The rows of these names, with those whose models they measure; all where none is named.

        Raises:
            TrainingError: If there is no such row.
        """
        wanted = {*only, *(self.row(name).of for name in only)}
        return tuple(row for row in self.rows if not only or row.name in wanted)


def read_plan(name: str | Path) -> Plan:
    """Reads a study.

    Args:
        name: A YAML file, or the name of a shipped one, as ``study/phantom``.

    Raises:
        TrainingError: If there is none, or it makes no sense; one line that names the value.
    """
    file = Path(name) if Path(name).is_file() else RECIPES / f"{name}.yaml"
    try:
        return Plan.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
    except OSError:
        raise TrainingError(f"there is no study {name}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise TrainingError(f"{file} is no YAML: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        words = first["msg"].removeprefix("Value error, ")
        raise TrainingError(f"{file}: {f'{place}: ' if place else ''}{words}") from None
