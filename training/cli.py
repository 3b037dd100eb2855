"""``litegpt-train``: make phantoms, train the phantom model, measure a model, look into datasets."""

from __future__ import annotations

import logging
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console
from rich.progress import TaskID

from litegpt.errors import LiteGPTError
from training.errors import TrainingError
from training.evaluate_command import evaluate
from training.inspect_command import inspect
from training.progress_bar import progress_bar as _progress_bar
from training.report_command import report
from training.stages import DIAGNOSIS, GROUNDING, Stage, scaled

if TYPE_CHECKING:
    from training.loop import Progress

TEST_SEEDS: Final = (999, 31_337)
"""Of the phantoms that models are measured on."""

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode="rich")


@app.callback()
def _commands() -> None:
    """Train LiteGPT and measure it."""


Seed = Annotated[int, typer.Option(help="Everything random follows from it.")]
Out = Annotated[Path, typer.Option(help="Folder to write; made where it is missing.", file_okay=False)]
Start = Annotated[Path, typer.Option("--from", help="Model folder to start from.", exists=True)]
Factor = Annotated[float, typer.Option(min=0, help="How many images, against the recipe.")]
Minutes = Annotated[float | None, typer.Option(min=0, help="Wall-clock limit; default: by images only.")]
Threads = Annotated[int, typer.Option(min=1, help="Processor cores to use.")]


@app.command("phantom-model")
def phantom_model(
    out: Out, seed: Seed = 0, factor: Factor = 1.0, minutes: Minutes = None, threads: Threads = 2
) -> None:
    """Train the phantom model from nothing: pretrain, grounding, diagnosis, one after the other.

    Example: litegpt-train phantom-model --out build/phantom --minutes 30
    """
    from training.phantom_model import train_phantom_model

    with _training(threads) as report:
        train_phantom_model(out, seed=seed, factor=factor, minutes=minutes, report=report)


@app.command()
def pretrain(
    out: Out, seed: Seed = 0, factor: Factor = 1.0, minutes: Minutes = None, threads: Threads = 2
) -> None:
    """Pre-train the phantom preset's encoders and language model, which nobody else has.

    Example: litegpt-train pretrain --out build/pretrained
    """
    from training.phantom_model import pretrain_phantom_model

    with _training(threads) as report:
        pretrain_phantom_model(out, seed=seed, factor=factor, minutes=minutes, report=report)


@app.command()
def grounding(
    start: Start,
    out: Out,
    seed: Seed = 0,
    factor: Factor = 1.0,
    minutes: Minutes = None,
    threads: Threads = 2,
) -> None:
    """The paper's stage 1: findings with boxes, [identify]; LoRA and projection.

    Example: litegpt-train grounding --from build/pretrained --out build/grounded
    """
    _adapter_stage(GROUNDING, start, out, seed, factor, minutes, threads)


@app.command()
def diagnosis(
    start: Start,
    out: Out,
    seed: Seed = 0,
    factor: Factor = 1.0,
    minutes: Minutes = None,
    threads: Threads = 2,
) -> None:
    """The paper's stage 2: diagnoses, [vqa]; LoRA and projection.

    Example: litegpt-train diagnosis --from build/grounded --out build/phantom
    """
    _adapter_stage(DIAGNOSIS, start, out, seed, factor, minutes, threads)


def _adapter_stage(
    stage: Stage, start: Path, out: Path, seed: int, factor: float, minutes: float | None, threads: int
) -> None:
    from training.phantom_model import train_adapter_stage

    planned = replace(scaled(stage, factor), minutes=minutes)
    with _training(threads) as report:
        train_adapter_stage(start, out, planned, seed=seed, report=report)


@app.command()
def phantom(
    out: Out,
    images: Annotated[int, typer.Option(min=1, help="How many.")] = 100,
    seed: Seed = 1,
) -> None:
    """Write phantoms as DICOM files, with what is drawn in them in truth.json.

    Example: litegpt-train phantom --images 500 --seed 7 --out build/phantoms
    """
    from training.phantom.collection import fresh_phantoms, write_collection

    with _progress_bar() as bar:
        for _ in bar.track(
            write_collection(fresh_phantoms(images, seed), out), total=images, description="phantoms"
        ):
            pass


@app.command()
def samples(out: Out) -> None:
    """Write the eight phantoms that ship inside the package.

    Example: litegpt-train samples --out litegpt/phantoms
    """
    from training.phantom.collection import samples as shipped
    from training.phantom.collection import write_collection

    for path in write_collection(shipped(), out):
        typer.echo(path)


@app.command()
def calibrate(
    model: Annotated[str, typer.Argument(help="Model folder.", metavar="FOLDER")],
    version: Annotated[str, typer.Option(help="The model's new version: thresholds belong to it.")],
    images: Annotated[int, typer.Option(min=1, help="How many phantoms to validate on.")] = 500,
    seed: Annotated[int, typer.Option(help="Of the phantoms; not one that models are tested on.")] = 4711,
    out: Annotated[
        Path | None, typer.Option(help="Folder for a calibrated copy; default: in place.", file_okay=False)
    ] = None,
) -> None:
    """Measure a model's operating point on fresh phantoms and write it into its folder.

    Scores are calibrated, and each label gets the threshold of its best F1; what falls below is kept in a
    node's records but not reported. Where a node uses the folder, write a copy and point the node to that.

    Example: litegpt-train calibrate build/phantom --version 1.1 --out build/calibrated
    """
    from litegpt.calibration_card import calibration_card
    from litegpt.engine import Engine
    from litegpt.identity import model_folder
    from training.evaluation.phantoms import drawn, read_phantoms
    from training.operating_point import (
        below_thresholds,
        measure_operating_point,
        write_operating_point,
    )

    folder = model_folder(model)
    _require_new_version(folder, version, seed, out)
    with _progress_bar() as bar:
        stream = read_phantoms(Engine.load(folder, calibrated=False), images, seed)
        tracked = bar.track(stream, total=images, description="reading phantoms")
        results = [(drawn(phantom), reading) for phantom, reading in tracked]
    point = measure_operating_point(results, version=version, measured_on=f"{images} phantoms of seed {seed}")
    if out is not None:
        shutil.copytree(folder, out)
    write_operating_point(out or folder, point)
    Console().print(calibration_card(point, below_thresholds(point, results)))


def _require_new_version(folder: Path, version: str, seed: int, out: Path | None) -> None:
    from litegpt.identity import read_identity

    if read_identity(folder).version == version:
        raise TrainingError(f"{folder} is version {version} already: thresholds need a version of their own")
    if seed in TEST_SEEDS:
        raise TrainingError(f"seed {seed} is for tests: thresholds chosen on it would flatter them")
    if out is not None and out.exists():
        raise TrainingError(f"{out} is there already")


app.command()(evaluate)
app.command()(inspect)
app.command()(report)


@contextmanager
def _training(threads: int) -> Iterator[Callable[[Progress], None]]:
    """A progress bar a stage, fed by the loop's reports."""
    import torch

    torch.set_num_threads(threads)
    tasks: dict[str, TaskID] = {}
    with _progress_bar() as bar:

        def report(progress: Progress) -> None:
            if progress.stage not in tasks:
                tasks[progress.stage] = bar.add_task(progress.stage, total=progress.total)
            text = f"{progress.stage} loss {progress.loss:.3f}"
            bar.update(tasks[progress.stage], completed=progress.images, description=text)

        yield report


def main() -> None:
    """Entry point of ``litegpt-train``."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    logging.getLogger("training").setLevel(logging.INFO)
    try:
        app()
    except (TrainingError, LiteGPTError) as error:
        print(f"litegpt-train: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
