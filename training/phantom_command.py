"""``litegpt-train phantom`` and ``samples``: phantoms as files."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from itertools import takewhile
from pathlib import Path
from typing import Annotated

import typer

from training.finding_set import FindingSet
from training.interruption import INTERRUPTED, interruptible
from training.progress_bar import progress_bar

Out = Annotated[Path, typer.Option(help="Folder to write; made where it is missing.", file_okay=False)]


class Layout(StrEnum):
    """Where the files lie."""

    VINDR = "vindr"
    FLAT = "flat"


def phantom(
    out: Out,
    images: Annotated[int, typer.Option(min=1, help="How many.")] = 100,
    seed: Annotated[int, typer.Option(help="Everything random follows from it.", min=0)] = 1,
    labels: Annotated[FindingSet, typer.Option(help="How many findings they can have.")] = FindingSet.ALL,
    layout: Annotated[
        Layout,
        typer.Option(
            help="vindr: train and test with VinDr-CXR's CSV files, three readers; flat: images only."
        ),
    ] = Layout.VINDR,
    test_share: Annotated[
        float, typer.Option(min=0, max=1, help="The part of the images in test, if the layout has one.")
    ] = 0.2,
) -> None:
    """Write phantoms as DICOM files, with what is drawn in them in truth.json.

    By default they have the shape of VinDr-CXR, and litegpt-train inspect vindr-cxr reads them. The folder
    has to be empty. Ctrl-C finishes the image in hand and writes the tables of all that are there.

    Example: litegpt-train phantom --images 500 --seed 7 --out build/phantoms
    """
    from training.phantom.collection import fresh_phantoms, refuse_another_set, write_collection
    from training.phantom.vindr_folder import VindrFolder, splits

    items = fresh_phantoms(images, seed, drawn_labels=labels.labels)
    folder = VindrFolder(out, seed, known_labels=labels.labels)
    with interruptible() as stop:
        going_on = takewhile(lambda _: not stop(), items)
        if layout is Layout.FLAT:
            refuse_another_set(out)
            written = _counted(write_collection(going_on, out), images)
        else:
            placed = zip(going_on, splits(images, test_share, seed), strict=False)
            written = _counted(folder.write(placed), images)
    if folder.agreement.images:
        typer.echo("\n".join(folder.agreement.lines(3)))
    if written < images:
        typer.echo(f"stopped: {written:,} of {images:,} images are in {out}", err=True)
        raise typer.Exit(INTERRUPTED)


def _counted(files: Iterator[Path], images: int) -> int:
    with progress_bar() as bar:
        return sum(1 for _ in bar.track(files, total=images, description="phantoms"))


def phantom_sheet(out: Annotated[Path, typer.Option(help="PNG file to write.", dir_okay=False)]) -> None:
    """Draw every finding once, with its box, on one sheet.

    Example: litegpt-train phantom-sheet --out docs/phantom-findings.png
    """
    from training.phantom.findings_sheet import findings_sheet

    findings_sheet().save(out, optimize=True)


def samples(out: Out) -> None:
    """Write the eight phantoms that ship inside the package.

    Example: litegpt-train samples --out litegpt/phantoms
    """
    from training.phantom.collection import samples as shipped
    from training.phantom.collection import write_collection

    for path in write_collection(shipped(), out):
        typer.echo(path)
