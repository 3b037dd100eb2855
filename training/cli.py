"""``litegpt-train``: make phantoms, train the phantom model, measure a model, look into datasets."""

from __future__ import annotations

import logging
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as ProgressBar

from litegpt.errors import LiteGPTError
from training.cache_command import cache
from training.errors import TrainingError
from training.inspect_command import inspect
from training.stage_commands import diagnosis, grounding, phantom_model, pretrain

TEST_SEEDS: Final = (999, 31_337)
"""Of the phantoms that models are measured on."""

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode="rich")


@app.callback()
def _commands() -> None:
    """Train LiteGPT and measure it."""


Seed = Annotated[int, typer.Option(help="Everything random follows from it.")]
Out = Annotated[Path, typer.Option(help="Folder to write; made where it is missing.", file_okay=False)]


app.command()(pretrain)
app.command()(grounding)
app.command()(diagnosis)
app.command("phantom-model")(phantom_model)


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
def evaluate(
    model: Annotated[
        str, typer.Argument(help="A model folder, or 'phantom' for the shipped one.")
    ] = "phantom",
    images: Annotated[int, typer.Option(min=1, help="How many fresh phantoms.")] = 300,
    seed: Seed = 999,
    resamples: Annotated[
        int, typer.Option(min=0, help="Draws of the bootstrap behind the 95 % intervals; 0 for none.")
    ] = 1000,
    as_json: Annotated[bool, typer.Option("--json", help="Print all figures as JSON.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print the tables as Markdown.")] = False,
) -> None:
    """Measure a model on fresh phantoms against what was drawn.

    Guessing and the paper's numbers are printed beside it; docs/evaluation.md explains each measure.

    Example: litegpt-train evaluate phantom --images 300 --seed 999

    Example: litegpt-train evaluate build/phantom --resamples 200 --markdown > measures.md
    """
    from litegpt.engine import Engine
    from training.evaluation.phantoms import evaluation, guessing, read_phantoms
    from training.evaluation.scorecard import sheets, to_json, to_markdown, to_rich

    if as_json and as_markdown:
        raise typer.BadParameter("--json or --markdown, not both")
    engine = Engine.load(model)
    with _progress_bar() as bar:
        stream = read_phantoms(engine, images, seed, candidates=True)
        results = list(bar.track(stream, total=images, description="reading phantoms"))
        measured = evaluation(
            results,
            resamples=resamples,
            seed=seed,
            track=lambda draws: bar.track(draws, total=resamples, description="bootstrap"),
        )
    guessed = guessing([phantom for phantom, _ in results])
    if as_json:
        typer.echo(to_json(measured, guessed))
    elif as_markdown:
        typer.echo(to_markdown(sheets(measured, guessed)))
    else:
        Console().print(to_rich(sheets(measured, guessed)))


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


app.command()(inspect)
app.command()(cache)


@contextmanager
def _progress_bar() -> Iterator[ProgressBar]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with ProgressBar(*columns, console=Console(stderr=True)) as bar:
        yield bar


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
