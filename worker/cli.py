"""The commands that ``worker`` adds to ``litegpt-node``."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from litegpt.phantoms import phantom_files
from service import logs
from service.cli.options import require_folder
from worker.demo.modality import find_images
from worker.demo.run import QUIET_SECONDS, demonstrate
from worker.demo.table import results_table, write_overlays


def demo(
    radiographs: Annotated[
        Path | None, typer.Option(help="Your own DICOM files instead of the synthetic radiographs.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Where the node's data, reports and pictures go.")] = Path("demo"),
) -> None:
    """Push radiographs through a whole node and back to a PACS, on this machine, and show what came of it.

    Exit code 0 only if every study ended delivered.

    Example: litegpt-node demo --radiographs /some/folder
    """
    logs.configure("WARNING")
    console = Console(highlight=False)
    images, others = find_images(radiographs or phantom_files()[0].parent)
    require_folder(out)
    folder = out / datetime.now().strftime("%Y%m%d-%H%M%S")
    folder.mkdir(parents=True, exist_ok=True)
    with Progress(
        TextColumn("{task.description:<22}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    ) as progress:
        bars = {}

        def on_progress(step: str, done: int, total: int) -> None:
            if step not in bars:
                bars[step] = progress.add_task(step, total=total)
            progress.update(bars[step], completed=done)

        studies = demonstrate(images, folder, on_progress)
    write_overlays(studies, folder / "overlays")
    console.print(results_table(studies))
    delivered = sum(study.is_delivered for study in studies)
    console.print(
        f"{delivered} of {len(studies)} studies delivered; the time includes {QUIET_SECONDS:g} s quiet."
    )
    if radiographs and others:
        console.print(f"{others} other files were not DICOM and were left out.")
    console.print(
        Text(f"reports   {folder / 'pacs'}\npictures  {folder / 'overlays'}\nnode log  {folder / 'node.log'}")
    )
    console.print(
        "The phantom model is a demonstration trained on synthetic images: what it says about a real patient "
        "means nothing. Not a medical device.",
        style="yellow",
    )
    raise typer.Exit(0 if delivered == len(studies) else 1)
