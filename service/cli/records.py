"""Commands about the node's footing: ``migrate`` and ``check``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from service.checks import Line, examine
from service.cli.options import Config, DataDir, Destinations, settings_as_given, settings_of_process
from service.errors import SettingsError
from service.records.database import Records
from service.records.migrate import losses, revision_named
from service.records.migrate import migrate as migrate_records
from service.settings import Settings
from service.supervisor import alone_in


def register(app: typer.Typer) -> None:
    """Adds these commands."""
    for command in (migrate, check):
        app.command()(command)


To = Annotated[
    str,
    typer.Option(
        "--to", metavar="RELEASE", help="Go to this release's schema, also down.", show_default=False
    ),
]
GiveUp = Annotated[
    bool, typer.Option("--give-up", help="Go down although the older schema has no place for some rows.")
]


def migrate(
    config: Config = None, data_dir: DataDir = None, to: To = "head", give_up: GiveUp = False
) -> None:
    """Bring the database to the present schema. `up` does it by itself for the embedded one.

    On PostgreSQL the node of the release before may run meanwhile. On SQLite, and to go down, stop it first.

    Example: litegpt-node migrate --to 0.1.0
    """
    settings = settings_of_process(config, data_dir=data_dir)
    revision = revision_named(to)
    records = Records.open(settings)
    try:
        with _at_rest(settings) if settings.embedded_database else nullcontext():
            lost = losses(records.engine, revision)
            if lost and not give_up:
                raise SettingsError(
                    f"schema {revision} has no place for {', '.join(lost)}: "
                    "back up, then add --give-up to lose them"
                )
            before, after = migrate_records(records.engine, revision)
    finally:
        records.close()
    if before == after:
        typer.echo(f"the database is at {after} already")
    else:
        typer.echo(f"the database went from {before or 'empty'} to {after}")


@contextmanager
def _at_rest(settings: Settings) -> Iterator[None]:
    """Keeps a node from coming up on the embedded database.

    Raises:
        SettingsError: If one is up.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(alone_in(settings.data_dir))
        except SettingsError as error:
            raise SettingsError(f"{error}: stop it first, SQLite is migrated at rest") from None
        yield


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
