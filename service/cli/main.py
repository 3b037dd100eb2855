"""The entry point of ``litegpt-node``: its commands, those that other rooms add, and the edge for errors.

Exit codes: 0 done; 1 the thing asked about is not in order; 2 a setting or an argument is wrong.
"""

from __future__ import annotations

import sys
from importlib.metadata import entry_points, version
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.text import Text

from litegpt.errors import ModelError
from service.cli import (
    actions,
    backup,
    comparing,
    conflicts,
    dicom_users,
    explaining,
    exporting,
    importing,
    jobs,
    models,
    processes,
    purging,
    reconcile,
    records,
    retrieving,
    selftest,
    studies,
    tokens,
    users,
    watch,
    webhooks,
)
from service.errors import NodeError, SettingsError

COMMANDS_GROUP: Final = "litegpt_node.commands"
"""Entry points of this group become commands, so that ``worker`` can add its own unknown to us."""


def application() -> typer.Typer:
    """All commands."""
    app = typer.Typer(
        name="litegpt-node",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
    )
    app.callback()(_whole)
    rooms = (
        processes,
        importing,
        retrieving,
        jobs,
        records,
        backup,
        users,
        dicom_users,
        tokens,
        studies,
        explaining,
        actions,
        conflicts,
        models,
        reconcile,
        exporting,
        comparing,
        purging,
        watch,
        selftest,
        webhooks,
    )
    for room in rooms:
        room.register(app)
    for entry_point in entry_points(group=COMMANDS_GROUP):
        app.command(entry_point.name)(entry_point.load())
    return app


def _tell_version(asked: bool) -> None:
    if asked:
        typer.echo(f"litegpt-node {version('litegpt-node')}")
        raise typer.Exit


def _whole(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_tell_version, is_eager=True, help="Says which version this is."),
    ] = False,
) -> None:
    """A DICOM node that reads chest radiographs and returns reports. Not a medical device."""


def main() -> None:
    """Runs a command; every error of ours becomes one line."""
    try:
        application()()
    except (NodeError, ModelError) as error:
        _complain(str(error))
        sys.exit(2 if isinstance(error, (SettingsError, ModelError)) else 1)
    except PermissionError as error:
        _complain(f"no permission for {error.filename or error}")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def _complain(line: str) -> None:
    Console(stderr=True, soft_wrap=True, highlight=False).print(Text(f"litegpt-node: {line}"))


if __name__ == "__main__":
    main()
