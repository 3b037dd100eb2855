"""Commands about the models of the node: ``models list``, ``add``, ``activate``, ``rollback``, …"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from service.cli.options import AsJSON, Config, DataDir, destination_of, open_records, settings_of_process
from service.cli.studies import DEMONSTRATION
from service.cli.who import who
from service.errors import SettingsError
from service.models.changes import Admin, Change
from service.models.roster import KnownModel, roster_of

Name = Annotated[str, typer.Argument(help='"ID VERSION", or a version that no other model has.')]


def register(app: typer.Typer) -> None:
    """Adds these commands, as one group."""
    group = typer.Typer(no_args_is_help=True, help=_HELP)
    group.command("list")(list_)
    for command in (add, activate, rollback, shadow, retire):
        group.command()(command)
    app.add_typer(group, name="models")


_HELP = """Say which models there are, which one reads what comes, and which is compared with it.

Changes take effect with the next study, without a restart.

Example: litegpt-node models add /srv/models/litegpt-1.1

Example: litegpt-node models shadow 1.1 --to TEST@192.168.1.30:104, and --stop
"""


def list_(config: Config = None, data_dir: DataDir = None, as_json: AsJSON = False) -> None:
    """List the models, the active one first.

    Example: litegpt-node models list --json
    """
    settings = settings_of_process(config, data_dir=data_dir)
    records = open_records(settings)
    try:
        with records.reading() as session:
            roster = roster_of(session, settings)
    finally:
        records.close()
    if as_json:
        typer.echo(json.dumps([_as_json(model) for model in roster.models], indent=2))
        return
    table = Table("model", "state", "since (UTC)", "folder", "remark", box=None, pad_edge=False)
    for model in roster.models:
        since = f"{model.activated_at:%Y-%m-%d %H:%M}" if model.activated_at else "-"
        table.add_row(Text(str(model)), model.state, since, Text(model.folder), Text(_remark(model)))
    console = Console(highlight=False)
    console.print(table)
    if any(model.identity.demonstration for model in roster.models):
        console.print(DEMONSTRATION, style="yellow")


def add(
    folder: Annotated[
        str, typer.Argument(help="Model folder, as every analysis worker sees it; or `phantom`.")
    ],
    config: Config = None,
    data_dir: DataDir = None,
    as_json: AsJSON = False,
) -> None:
    """Add a model folder, once it is seen to be whole. The settings' model stays the active one.

    Example: litegpt-node models add /srv/models/litegpt-1.1
    """
    _change(lambda admin: admin.add(folder), config, data_dir, as_json)


def activate(name: Name, config: Config = None, data_dir: DataDir = None, as_json: AsJSON = False) -> None:
    """Have a model read what comes from now on, and what waits for the former.

    Example: litegpt-node models activate "litegpt 1.1"
    """
    _change(lambda admin: admin.activate(name), config, data_dir, as_json)


def rollback(config: Config = None, data_dir: DataDir = None, as_json: AsJSON = False) -> None:
    """Have the model read again that was active before; done once more, the one before that.

    Example: litegpt-node models rollback
    """
    _change(lambda admin: admin.roll_back(), config, data_dir, as_json)


def shadow(
    name: Name,
    to: Annotated[
        str, typer.Option("--to", metavar="AET@HOST:PORT", help="A test destination that gets its results.")
    ] = "",
    stop: Annotated[bool, typer.Option("--stop", help="It reads no more of what comes.")] = False,
    config: Config = None,
    data_dir: DataDir = None,
    as_json: AsJSON = False,
) -> None:
    """Have a model read what comes beside the active one, to be compared; it delivers nothing, or to a test.

    Example: litegpt-node models shadow 1.2 --to TEST@192.168.1.30:104
    """
    if stop and to:
        raise SettingsError("--stop and --to do not go together")
    destination = destination_of(to) if to else None

    def change(admin: Admin) -> Change:
        return admin.end_shadow(name) if stop else admin.shadow(name, destination)

    _change(change, config, data_dir, as_json)


def retire(name: Name, config: Config = None, data_dir: DataDir = None, as_json: AsJSON = False) -> None:
    """Give a model no more work. What it has read stays, and can be compared.

    Example: litegpt-node models retire 1.0
    """
    _change(lambda admin: admin.retire(name), config, data_dir, as_json)


def _change(do: Callable[[Admin], Change], config: Any, data_dir: Any, as_json: bool) -> None:
    settings = settings_of_process(config, data_dir=data_dir)
    records = open_records(settings)
    try:
        with records.writing() as session:
            change = do(Admin(session, settings, who()))
    finally:
        records.close()
    if as_json:
        typer.echo(json.dumps({**_as_json(change.model), "outcome": change.words}))
        return
    console = Console(highlight=False, soft_wrap=True)
    console.print(Text(f"{change.model}: {change.words}"))
    if change.model.identity.demonstration:
        console.print(DEMONSTRATION, style="yellow")


def _as_json(model: KnownModel) -> dict[str, Any]:
    return {
        "id": model.identity.id,
        "version": model.identity.version,
        "demonstration": model.identity.demonstration,
        "state": model.state,
        "folder": model.folder,
        "digest": model.digest,
        "shadow_to": model.shadow_to,
        "added_at": model.added_at.isoformat() if model.added_at else None,
        "activated_at": model.activated_at.isoformat() if model.activated_at else None,
    }


def _remark(model: KnownModel) -> str:
    remarks = (
        "demonstration" if model.identity.demonstration else "",
        f"results to {model.shadow_to}" if model.shadow_to else "",
        "of the settings" if model.added_at is None else "",
    )
    return ", ".join(filter(None, remarks))
