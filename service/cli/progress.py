"""How far a command is, on a terminal: shown to people only, and gone at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn


@contextmanager
def studies_counted(name: str, *, shown: bool = True) -> Iterator[Callable[[int], None]]:
    """Takes how many more studies are done; shows their sum where standard error is a terminal."""
    console = Console(stderr=True)
    columns = (
        SpinnerColumn(),
        TextColumn(f"{name}: {{task.completed:,}} studies"),
        TimeElapsedColumn(),
    )
    disable = not (shown and console.is_terminal)
    with Progress(*columns, console=console, transient=True, disable=disable) as progress:
        task = progress.add_task(name, total=None)
        yield lambda studies: progress.advance(task, studies)
