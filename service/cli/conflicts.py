"""Commands about conflicts: ``conflict list``, ``keep-first``, ``take-later``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from service.actions.deciding import KeepFirst, TakeLater
from service.archive import Archive
from service.cli.actions import DryRun, run_action
from service.cli.choosing import Chosen, choosing
from service.cli.options import AsJSON, Config, DataDir, open_records, settings_of_process
from service.completion import Completion
from service.records.conflicts import Conflict, Contender, list_conflicts
from service.records.overview import as_plain_dict

_HELP = """Say which image counts where one SOP Instance UID came with different pixels.

All of them stay in the archive; what is decided against is used for nothing.

Example: litegpt-node conflict list, then litegpt-node conflict take-later STUDY --dry-run
"""


def register(app: typer.Typer) -> None:
    """Adds these commands, as one group."""
    group = typer.Typer(no_args_is_help=True, help=_HELP)
    group.command("list")(list_)
    group.command("keep-first")(choosing(keep_first))
    group.command("take-later")(choosing(take_later))
    app.add_typer(group, name="conflict")


def list_(
    config: Config = None,
    data_dir: DataDir = None,
    as_json: AsJSON = False,
    limit: Annotated[int, typer.Option(min=1, help="Of how many studies, the oldest first.")] = 50,
) -> None:
    """List what waits for a decision, with the files of each. Exit code 1 where there is something.

    Example: litegpt-node conflict list --json
    """
    records = open_records(settings_of_process(config, data_dir=data_dir))
    try:
        with records.reading() as session:
            conflicts = list_conflicts(session, limit)
    finally:
        records.close()
    if as_json:
        typer.echo(json.dumps([as_plain_dict(conflict) for conflict in conflicts], indent=2))
    else:
        console = Console(highlight=False, soft_wrap=True)
        for conflict in conflicts:
            for line in _lines(conflict):
                console.print(line)
        if not conflicts:
            console.print("no conflict")
    raise typer.Exit(1 if conflicts else 0)


def keep_first(
    chosen: Chosen,
    dry_run: DryRun = False,
    as_json: AsJSON = False,
    config: Config = None,
    data_dir: DataDir = None,
) -> None:
    """Keep the image that came first, and set aside what came later. Nothing is read anew.

    Example: litegpt-node conflict keep-first ACC-17
    """
    settings = settings_of_process(config, data_dir=data_dir)
    run_action(lambda _: KeepFirst(), chosen, settings, dry_run, as_json)


def take_later(
    chosen: Chosen,
    dry_run: DryRun = False,
    as_json: AsJSON = False,
    config: Config = None,
    data_dir: DataDir = None,
) -> None:
    """Take the object that came last as the image, and set the others aside: the study is read again.

    What was found in the former is not sent any more; a report that was delivered is named by the new one.

    Example: litegpt-node conflict take-later ACC-17 --dry-run
    """
    settings = settings_of_process(config, data_dir=data_dir)
    archive = Archive(settings.data_dir)
    run_action(
        lambda records: TakeLater(Completion.at_present(settings, records), archive),
        chosen,
        settings,
        dry_run,
        as_json,
    )


def _lines(conflict: Conflict) -> Iterator[Text]:
    yield Text(f"study  {conflict.study_instance_uid}  {conflict.accession_number}".rstrip())
    yield Text(f"image  {conflict.sop_instance_uid}")
    for contender in conflict.contenders:
        yield Text(f"       {_line(contender)}")


def _line(contender: Contender) -> str:
    state = "held" if contender.held else "used"
    sender = contender.calling_ae_title or "?"
    return f"{state}  {contender.received_at:%Y-%m-%d %H:%M:%S} UTC  from {sender}  {contender.path}"
