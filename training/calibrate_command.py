"""``litegpt-train calibrate``: a model's operating point, measured and written into its folder."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from training.errors import TrainingError
from training.finding_set import FindingSet
from training.progress_bar import progress_bar

TEST_SEEDS: Final = (999, 31_337)
"""Of the phantoms that models are measured on."""


def calibrate(
    model: Annotated[str, typer.Argument(help="Model folder.", metavar="FOLDER")],
    version: Annotated[str, typer.Option(help="The model's new version: thresholds belong to it.")],
    images: Annotated[int, typer.Option(min=1, help="How many phantoms to validate on.")] = 500,
    seed: Annotated[int, typer.Option(help="Of the phantoms; not one that models are tested on.")] = 4711,
    labels: Annotated[
        FindingSet,
        typer.Option(help="How many findings phantoms can have: all 22, or the twelve of older models."),
    ] = FindingSet.ALL,
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
    with progress_bar() as bar:
        engine = Engine.load(folder, calibrated=False)
        stream = read_phantoms(engine, images, seed, drawn_labels=labels.labels)
        tracked = bar.track(stream, total=images, description="reading phantoms")
        results = [(drawn(phantom), reading) for phantom, reading in tracked]
    measured_on = f"{images} phantoms of seed {seed} with {labels} findings"
    point = measure_operating_point(results, version=version, measured_on=measured_on)
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
