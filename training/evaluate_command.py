"""``litegpt-train evaluate``: a model measured on fresh phantoms, or on a dataset."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console

from training.finding_set import FindingSet
from training.inspect_command import DatasetName
from training.interruption import INTERRUPTED
from training.progress_bar import progress_bar

if TYPE_CHECKING:
    from training.evaluation.journal import Examined, Run
    from training.evaluation.subject import Subject

_PHANTOMS: Final = 300
_FAILURES_SHOWN: Final = 5


class SplitName(StrEnum):
    """Which images of a dataset."""

    TEST = "test"
    VALIDATION = "validation"
    TRAIN = "train"
    ALL = "all"


class BoxRuleName(StrEnum):
    """The rules of ``training.agreement`` for boxes."""

    FIRST = "first"
    WBF = "wbf"
    MAJORITY = "majority"
    ALL = "all"


class LabelRuleName(StrEnum):
    """And for labels of the whole image."""

    UNION = "union"
    MAJORITY = "majority"


class Form(StrEnum):
    """How the figures are printed."""

    TABLES = "tables"
    JSON = "json"
    MARKDOWN = "markdown"


def evaluate(
    model: Annotated[
        str, typer.Argument(help="A model folder, or 'phantom' for the shipped one.")
    ] = "phantom",
    dataset: Annotated[
        DatasetName | None, typer.Argument(help="What kind of dataset; without it, fresh phantoms.")
    ] = None,
    path: Annotated[Path | None, typer.Argument(help="Its folder, or one file of it.", exists=True)] = None,
    split: Annotated[SplitName, typer.Option(help="Which images of the dataset.")] = SplitName.TEST,
    boxes: Annotated[
        BoxRuleName, typer.Option(help="How several readers' boxes become one truth.")
    ] = BoxRuleName.WBF,
    labels_by: Annotated[
        LabelRuleName, typer.Option(help="How several readers' labels do.")
    ] = LabelRuleName.UNION,
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most so many images of the dataset, chosen by a hash.")
    ] = None,
    images: Annotated[
        int | None, typer.Option(min=1, help="How many fresh phantoms.", show_default=str(_PHANTOMS))
    ] = None,
    seed: Annotated[int, typer.Option(help="Of fresh phantoms, and of the bootstrap.")] = 999,
    labels: Annotated[
        FindingSet | None,
        typer.Option(
            help="How many findings fresh phantoms can have: all 22, or the twelve of older models.",
            show_default=FindingSet.ALL.value,
        ),
    ] = None,
    resamples: Annotated[
        int, typer.Option(min=0, help="Draws of the bootstrap behind the 95 % intervals; 0 for none.")
    ] = 1000,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for readings and figures; an interrupted run goes on there.", file_okay=False
        ),
    ] = None,
    pictures: Annotated[
        bool, typer.Option("--pictures/--no-pictures", help="Keep small pictures in the folder, for report.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print all figures as JSON.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print the tables as Markdown.")] = False,
) -> None:
    """Measure a model on a dataset, or on fresh phantoms, against what is true.

    Guessing and the paper's numbers are printed beside it; docs/evaluation.md explains each measure.

    Example: litegpt-train evaluate phantom --images 300 --seed 999

    Example: litegpt-train evaluate build/model vindr-cxr data/vindr --out build/vindr-test
    """
    form = _form(as_json, as_markdown)
    if dataset is None or path is None:
        _refuse(dataset is not None, f"say where {dataset} lies")
        _refuse(limit is not None, "--limit is for a dataset: say --images")
        subjects, count, run = _fresh_phantoms(model, images or _PHANTOMS, seed, labels or FindingSet.ALL)
    else:
        _refuse(images is not None, "--images is for fresh phantoms: say --limit")
        _refuse(labels is not None, "--labels is for fresh phantoms: a dataset has its own")
        subjects, count, run = _dataset(model, dataset, path, split, boxes, labels_by, limit)
    examined = _examined(model, subjects, count, run, out, pictures)
    _figures(examined, run, form, out, resamples, seed)


def _form(as_json: bool, as_markdown: bool) -> Form:
    _refuse(as_json and as_markdown, "--json or --markdown, not both")
    return Form.JSON if as_json else Form.MARKDOWN if as_markdown else Form.TABLES


def _refuse(wrong: bool, words: str) -> None:
    if wrong:
        raise typer.BadParameter(words)


def _fresh_phantoms(
    model: str, images: int, seed: int, labels: FindingSet
) -> tuple[Iterable[Subject], int, Run]:
    from training.evaluation.journal import run_of
    from training.evaluation.phantoms import phantom_subjects

    # The twelve's name is as it was, so that runs of then can be gone on with
    name = "fresh phantoms" if labels is FindingSet.TWELVE else f"fresh phantoms with {labels} findings"
    run = run_of(model, name, f"seed {seed}", "as drawn")
    return phantom_subjects(images, seed, drawn_labels=labels.labels), images, run


def _dataset(
    model: str,
    dataset: DatasetName,
    path: Path,
    split: SplitName,
    boxes: BoxRuleName,
    labels: LabelRuleName,
    limit: int | None,
) -> tuple[Sequence[Subject], int, Run]:
    from training.datasets.catalogue import DATASETS
    from training.datasets.problems import Tally
    from training.evaluation.dataset_subjects import Selection, dataset_subjects
    from training.evaluation.journal import run_of

    run = run_of(model, DATASETS[dataset.value].title, split.value, f"boxes {boxes}, labels by {labels}")
    selection = Selection(
        dataset.value,
        path,
        split.value,
        boxes.value,
        labels.value,
        limit,
    )
    tally = Tally()
    subjects = dataset_subjects(selection, tally)
    if tally.counts:
        typer.echo(f"{sum(tally.counts.values()):,} problems: litegpt-train inspect lists them", err=True)
    return subjects, len(subjects), run


def _examined(
    model: str, subjects: Iterable[Subject], count: int, run: Run, out: Path | None, pictures: bool
) -> list[Examined]:
    from litegpt.engine import Engine
    from training.evaluation.examination import Examination
    from training.evaluation.journal import Journal

    read: list[Examined] = []
    with nullcontext() if out is None else Journal(out, run) as journal:
        examination = Examination(Engine.load(model), journal, pictures=pictures)
        try:
            with progress_bar() as bar:
                read += bar.track(examination.of(subjects), total=count, description="reading images")
        except KeyboardInterrupt:
            if journal is None:
                raise
            words = f"stopped: {len(journal.known):,} images are kept in {out}; the same command goes on"
            typer.echo(words, err=True)
            raise typer.Exit(INTERRUPTED) from None
    _tell_failures(read)
    return sorted(read, key=lambda one: one.image_id)


def _tell_failures(read: Sequence[Examined]) -> None:
    failed = [one for one in read if one.reading.failure is not None]
    if not failed:
        return
    typer.echo(f"{len(read):,} images, of which {len(failed):,} could not be read:", err=True)
    for one in failed[:_FAILURES_SHOWN]:
        typer.echo(f"  {one.file or one.image_id}: {one.reading.failure}", err=True)
    if len(failed) > _FAILURES_SHOWN:
        typer.echo(f"  and {len(failed) - _FAILURES_SHOWN:,} more", err=True)


def _figures(
    examined: Sequence[Examined], run: Run, form: Form, out: Path | None, resamples: int, seed: int
) -> None:
    from training.evaluation.measured_run import MeasuredRun
    from training.evaluation.scorecard import to_rich

    with progress_bar() as bar:
        measured = MeasuredRun.of(
            run,
            examined,
            resamples=resamples,
            seed=seed,
            track=lambda draws: (
                bar.track(
                    draws,
                    total=resamples,
                    description="bootstrap",
                )
                if resamples
                else draws
            ),
        )
    if out is not None:
        measured.write(out)
    if form is Form.JSON:
        typer.echo(measured.to_json())
    elif form is Form.MARKDOWN:
        typer.echo(measured.to_markdown())
    else:
        Console().print(to_rich(measured.sheets()))
