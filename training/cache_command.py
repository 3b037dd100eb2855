"""``litegpt-train cache``: decode a dataset's images once, before a training run waits for them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from training.inspect_command import DatasetName
from training.interruption import INTERRUPTED
from training.progress_bar import progress_bar

if TYPE_CHECKING:
    from training.datasets.problems import Tally


def cache(
    dataset: Annotated[DatasetName, typer.Argument(help="What kind of dataset it is.")],
    path: Annotated[Path, typer.Argument(help="Its folder, or one file of it.", exists=True)],
    folder: Annotated[
        Path | None,
        typer.Option("--cache", help="Folder of the caches; default: ~/.cache/litegpt.", file_okay=False),
    ] = None,
    size: Annotated[int, typer.Option(min=1, help="Side of the squares that the encoders want.")] = 224,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes that decode; default: one a core.")
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read what is there, and make damaged images anew.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if any image is missing.")] = False,
) -> None:
    """Decode the images of a dataset once and keep them as small squares, which training reads.

    Ctrl-C keeps what is done; the same command goes on from there.

    Example: litegpt-train cache vindr-cxr data/vindr-cxr --cache build/cache
    """
    from litegpt.cache_folder import default_cache_folder
    from training.datasets.catalogue import read_dataset
    from training.datasets.problems import Tally
    from training.display_cache import DisplayCache

    tally = Tally()
    files = [example.image for example in read_dataset(dataset.value, path, tally) if example.image]
    displays = DisplayCache(folder or default_cache_folder(), size)
    began = time.monotonic()
    processes = (os.cpu_count() or 1) if workers is None else workers
    try:
        with _progress() as report:
            squares = displays.fill(files, processes, report, verify=verify)
    except KeyboardInterrupt:
        typer.echo("broken off; what is done is kept, and the same command goes on from there", err=True)
        raise typer.Exit(INTERRUPTED) from None
    squares.report(tally)
    failures = _print_failures(tally)
    seconds = time.monotonic() - began
    typer.echo(f"{len(squares.present):,} of {len(squares):,} images are cached, after {seconds:.1f} s")
    typer.echo(f"{_bytes_in(displays.folder) / 1e6:,.1f} MB in {displays.folder}")
    if strict and failures:
        raise typer.Exit(1)


def _print_failures(tally: Tally) -> int:
    """Images that are missing, by kind, the first of each whole; returns how many."""
    from training.datasets.problems import Kind

    failures = 0
    for kind in (Kind.MISSING_IMAGE, Kind.UNREADABLE_IMAGE):
        if count := tally.counts.get(kind, 0):
            first = tally.first(kind)
            typer.echo(f"{kind.label}: {count:,}")
            for problem in first:
                typer.echo(f"  {problem}")
            if count > len(first):
                typer.echo(f"  and {count - len(first):,} more")
            failures += count
    return failures


def _bytes_in(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir()) if folder.exists() else 0


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """A bar on the terminal, fed with how many of how many files are done."""
    with progress_bar(disable=not Console(stderr=True).is_terminal) as bar:
        task = bar.add_task("images", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
