"""Commands about the node's footing: ``migrate`` and ``check``."""

from __future__ import annotations

import typer
from rich.console import Console
from rich.text import Text

from service.checks import Line, examine
from service.cli.options import Config, DataDir, Destinations, settings_as_given, settings_of_process
from service.records.database import Records
from service.records.migrate import migrate as migrate_records


def register(app: typer.Typer) -> None:
    """Adds these commands."""
    for command in (migrate, check):
        app.command()(command)


def migrate(config: Config = None, data_dir: DataDir = None) -> None:
    """Bring the database to the present schema. `up` does it by itself for the embedded one."""
    settings = settings_of_process(config, data_dir=data_dir)
    records = Records.open(settings)
    before, after = migrate_records(records.engine)
    records.close()
    if before == after:
        typer.echo(f"the database is at {after} already")
    else:
        typer.echo(f"the database went from {before or 'empty'} to {after}")


def check(config: Config = None, data_dir: DataDir = None, destination: Destinations = None) -> None:
    """Look whether everything a node needs is in order, and say what is not. Changes nothing.

    Exit code 0 where all is well, else 1; what is marked `!!` is well, and worth a thought.
    """
    settings = settings_as_given(config, data_dir=data_dir, destinations=destination)
    console = Console(soft_wrap=True, highlight=False)
    failed = False
    for line in examine(settings):
        failed |= line.complaint is not None
        mark, colour = _mark(line)
        console.print(Text.assemble((mark, colour), f" {line.name:<22} {line.complaint or line.fact}"))
    raise typer.Exit(1 if failed else 0)


def _mark(line: Line) -> tuple[str, str]:
    """What stands before a line, and its colour."""
    if line.complaint is not None:
        return "no ", "red"
    return ("!! ", "yellow") if line.warns else ("ok ", "green")
