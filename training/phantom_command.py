"""``litegpt-train phantom`` and ``samples``: phantoms as files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from training.progress_bar import progress_bar

Out = Annotated[Path, typer.Option(help="Folder to write; made where it is missing.", file_okay=False)]


def phantom(
    out: Out,
    images: Annotated[int, typer.Option(min=1, help="How many.")] = 100,
    seed: Annotated[int, typer.Option(help="Everything random follows from it.")] = 1,
) -> None:
    """Write phantoms as DICOM files, with what is drawn in them in truth.json.

    Example: litegpt-train phantom --images 500 --seed 7 --out build/phantoms
    """
    from training.phantom.collection import fresh_phantoms, write_collection

    with progress_bar() as bar:
        for _ in bar.track(
            write_collection(fresh_phantoms(images, seed), out), total=images, description="phantoms"
        ):
            pass


def samples(out: Out) -> None:
    """Write the eight phantoms that ship inside the package.

    Example: litegpt-train samples --out litegpt/phantoms
    """
    from training.phantom.collection import samples as shipped
    from training.phantom.collection import write_collection

    for path in write_collection(shipped(), out):
        typer.echo(path)
