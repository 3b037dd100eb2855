"""``litegpt-train inspect``: what is in a dataset, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from training.datasets.example import Example


class DatasetName(StrEnum):
    """The names of ``training.datasets.catalogue``, which is not loaded for the help alone."""

    VINDR_CXR = "vindr-cxr"
    VINBIGDATA = "vinbigdata"
    NIH = "nih"
    RSNA = "rsna"
    MIMIC_CXR = "mimic-cxr"
    JSONL = "jsonl"
    PHANTOM = "phantom"


def inspect(
    dataset: Annotated[DatasetName, typer.Argument(help="What kind of dataset it is.")],
    path: Annotated[Path, typer.Argument(help="Its folder, or one file of it.", exists=True)],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    open_images: Annotated[
        bool, typer.Option("--open-images", help="Open each image too, for its size; slow.")
    ] = False,
    show: Annotated[int, typer.Option(min=0, help="Problems of a kind to list; 0 lists all.")] = 3,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if anything was refused.")] = False,
) -> None:
    """Count what is in a dataset: images, boxes, readers, labels, and everything that is wrong, by kind.

    Example: litegpt-train inspect vinbigdata data/vinbigdata
    """
    from training.datasets.catalogue import DATASETS, read_dataset
    from training.datasets.problems import Tally
    from training.inspection import inspected
    from training.inspection_report import problem_lines, report, to_json

    tally = Tally(show)
    examples = read_dataset(dataset.value, path, tally)
    if open_images:
        from training.datasets.opened import opened

        examples = opened(examples, tally)
    inspection = inspected(_with_progress(examples), tally)
    if as_json:
        typer.echo(to_json(inspection, dataset.value, str(path)))
    else:
        Console().print(report(inspection, f"{DATASETS[dataset.value].title}: {path}"))
        for line in problem_lines(tally):
            typer.echo(line)
    if strict and inspection.refused:
        raise typer.Exit(1)


def _with_progress(examples: Iterable[Example]) -> Iterator[Example]:
    """Counts the images on the terminal while they are read; nobody knows yet how many there are."""
    columns = (SpinnerColumn(), TextColumn("{task.completed:,.0f} images"), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield from progress.track(examples, total=None, update_period=0.2)
