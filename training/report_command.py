"""``litegpt-train report``: a page of a model's training and evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    folders: Annotated[
        list[Path],
        typer.Argument(
            help="Of evaluate --out, and of training runs.",
            exists=True,
            file_okay=False,
            metavar="FOLDER…",
        ),
    ],
    out: Annotated[Path, typer.Option(help="The page to write.", dir_okay=False)] = Path("report.html"),
) -> None:
    """Write one HTML page of curves, tables and a contact sheet; it needs no other file and no network.

    The page holds images of the test set: keep it as you keep the dataset.

    Example: litegpt-train report build/phantom-999 build/training --out report.html
    """
    from training.errors import TrainingError
    from training.report.page import report_page

    page = report_page(folders)
    try:
        out.write_text(page, encoding="utf-8")
    except OSError as error:
        raise TrainingError(f"{out} cannot be written: {error.strerror or error}") from None
    typer.echo(f"{out}: {out.stat().st_size / 1e6:.1f} MB")
