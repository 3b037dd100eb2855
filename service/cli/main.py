"""The entry point of ``litegpt-node``: its commands, those that other rooms add, and the edge for errors.

Exit codes: 0 done; 1 the thing asked about is not in order; 2 a setting or an argument is wrong.
"""

from __future__ import annotations

import gc
import sys
from importlib import import_module
from importlib.metadata import entry_points, version
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.text import Text

from litegpt.errors import ModelError
from service.errors import NodeError, SettingsError
from service.own_files import for_ourselves

COMMANDS_GROUP: Final = "litegpt_node.commands"
"""Entry points of this group become commands, so that ``worker`` can add its own unknown to us."""


_ROOMS: Final = {
    "up": ("up",),
    "listening": ("listen",),
    "sweeping": ("sweep",),
    "fetching": ("retriever",),
    "serving": ("web",),
    "health": ("health",),
    "importing": ("import",),
    "retrieving": ("find", "retrieve"),
    "jobs": ("jobs", "job"),
    "records": ("migrate", "check"),
    "backup": ("backup", "restore"),
    "users": ("user",),
    "dicom_users": ("dicom-user",),
    "tokens": ("token",),
    "studies": ("studies", "show"),
    "explaining": ("explain",),
    "actions": ("rerun", "retry", "cancel", "force", "resend"),
    "conflicts": ("conflict",),
    "models": ("models",),
    "reconcile": ("reconcile",),
    "exporting": ("export",),
    "comparing": ("compare",),
    "purging": ("purge",),
    "watch": ("watch",),
    "selftest": ("selftest",),
    "webhooks": ("webhook-test",),
}
"""Modules of this package and the commands that each has, in the order in which help shows them."""


def application(asked: str | None = None) -> typer.Typer:
    """The commands: all of them, or those of the module that has the one that is asked for.

    Importing all takes a second, which a process that only listens need not wait for.
    """
    app = typer.Typer(
        name="litegpt-node",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
    )
    app.callback()(_whole)
    of_one = [room for room, commands in _ROOMS.items() if asked in commands]
    for room in of_one or _ROOMS:
        import_module(f"service.cli.{room}").register(app)
    if not of_one:
        for entry_point in entry_points(group=COMMANDS_GROUP):
            app.command(entry_point.name)(entry_point.load())
    return app


def _loaded(asked: str | None) -> typer.Typer:
    """As ``application``, and what is loaded is looked through for garbage neither now nor later: it stays.

    pynetdicom collects in full at every sixtieth connection, and would go through all of it each time.
    """
    gc.disable()
    try:
        return application(asked)
    finally:
        gc.freeze()
        gc.enable()


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
    for_ourselves()
    try:
        _loaded(sys.argv[1] if len(sys.argv) > 1 else None)()
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
