"""The commands that ``worker`` adds to ``litegpt-node``."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from litegpt.phantoms import phantom_files
from service import logs
from service.own_files import require_folder
from worker.demo.modality import OutgoingImage, find_images
from worker.demo.ohif import OHIF_VERSION, fetch_ohif, is_fetched, ohif_folder
from worker.demo.orthanc import OrthancPACS, OrthancProgram
from worker.demo.pacs import DemoPACS
from worker.demo.run import NODE, PACS, QUIET_SECONDS, DemoStudy, demonstrate
from worker.demo.table import results_table, write_overlays
from worker.demo.viewer import Viewer


def demo(
    radiographs: Annotated[
        Path | None, typer.Option(help="Your own DICOM files instead of the synthetic radiographs.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Where the node's data, reports and pictures go.")] = Path("demo"),
    viewer: Annotated[
        bool,
        typer.Option("--viewer", help="Orthanc is the PACS, and OHIF shows the results until Ctrl-C."),
    ] = False,
) -> None:
    """Push radiographs through a whole node and back to a PACS, on this machine, and show what came of it.

    Exit code 0 only if every study ended delivered.

    Example: litegpt-node demo --radiographs /some/folder

    Example: litegpt-node demo --viewer
    """
    logs.configure("WARNING")
    signal.signal(signal.SIGTERM, _interrupt)
    console = Console(highlight=False)
    images, others = find_images(radiographs or phantom_files()[0].parent)
    require_folder(out)
    # What the viewer needs is looked for before anything starts.
    seen_with = (OrthancProgram.find(), _ohif(console)) if viewer else None
    folder = out / datetime.now().strftime("%Y%m%d-%H%M%S")
    folder.mkdir(parents=True, exist_ok=True)
    if others and radiographs:
        console.print(f"{others} other files are not DICOM and are left out.")
    if seen_with is None:
        with DemoPACS(folder / "pacs") as pacs:
            studies = _run(images, folder, pacs, console)
    else:
        program, build = seen_with
        with (
            OrthancPACS(folder / "pacs", program, NODE) as orthanc,
            Viewer(build, orthanc.http_port) as shown,
        ):
            for image in images:
                orthanc.keep(image.path)
            studies = _run(images, folder, orthanc, console)
            _show_until_ctrl_c(studies, shown, console)
    raise typer.Exit(0 if all(study.is_delivered for study in studies) else 1)


def _interrupt(*_: object) -> NoReturn:
    """A request to end is as good as Ctrl-C: what was started is stopped."""
    raise KeyboardInterrupt


def _ohif(console: Console) -> Path:
    if is_fetched(ohif_folder()):
        return fetch_ohif()
    with console.status(f"Fetching the viewer, OHIF {OHIF_VERSION}, once: about 50 MB"):
        return fetch_ohif()


def _run(images: Sequence[OutgoingImage], folder: Path, pacs: PACS, console: Console) -> list[DemoStudy]:
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

        studies = demonstrate(images, folder, pacs, on_progress)
    write_overlays(studies, folder / "overlays")
    _print_results(studies, folder, console)
    return studies


def _print_results(studies: Sequence[DemoStudy], folder: Path, console: Console) -> None:
    console.print(results_table(studies))
    delivered = sum(study.is_delivered for study in studies)
    console.print(
        f"{delivered} of {len(studies)} studies delivered; the time includes {QUIET_SECONDS:g} s quiet."
    )
    console.print(
        Text(f"reports   {folder / 'pacs'}\npictures  {folder / 'overlays'}\nnode log  {folder / 'node.log'}")
    )
    console.print(
        "The phantom model is a demonstration trained on synthetic images: what it says about a real patient "
        "means nothing. Not a medical device.",
        style="yellow",
    )


def _show_until_ctrl_c(studies: Sequence[DemoStudy], viewer: Viewer, console: Console) -> None:
    console.print(
        "\nTo see the boxes, open a study in the browser of this machine and double-click its report, "
        "the series SR at the left. The series OT beside it is the picture with the boxes in it."
    )
    for study in studies:
        names = ", ".join(sent.image.name for sent in study.sent)
        console.print(Text(f"  {names}\n  {viewer.address_of(study.study_instance_uid)}"), soft_wrap=True)
    console.print(f"All studies: {viewer.address}\nCtrl-C ends the viewer and its PACS.", soft_wrap=True)
    try:
        signal.pause()
    except KeyboardInterrupt:
        console.print("Ended.")
