"""Commands that do something to studies: ``rerun``, ``retry``, ``cancel``, ``force``, ``resend``."""

from __future__ import annotations

import getpass
import json
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.text import Text

from litegpt.identity import read_identity
from service.actions.action import Action, Course, Tally
from service.actions.analysing import Cancel, Force, Rerun, Retry
from service.actions.resending import Resend
from service.cli.choosing import Chosen, choosing
from service.cli.options import AsJSON, Config, DataDir, destination_of, open_records, settings_of_process
from service.cli.progress import studies_counted
from service.completion import Completion
from service.errors import SettingsError
from service.records.tables import Priority
from service.settings import Destination, Settings

DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would come of it; change nothing.")]
_PRIORITIES: Final = "|".join(map(str, Priority))
AtPriority = Annotated[
    str, typer.Option("--priority", metavar=_PRIORITIES, help="How soon: today's patients are routine.")
]
NewPriority = Annotated[
    str, typer.Option("--priority", metavar=_PRIORITIES, help="How soon, if not as soon as it was.")
]
To = Annotated[
    str,
    typer.Option(
        "--to", metavar="AET@HOST:PORT", help="Only what goes there; a new destination gets what it wants."
    ),
]
Again = Annotated[bool, typer.Option("--again", help="What was delivered, too.")]


def register(app: typer.Typer) -> None:
    """Adds these commands."""
    for command in (rerun, retry, cancel, force, resend):
        app.command()(choosing(command))


def rerun(
    chosen: Chosen,
    priority: AtPriority = "backlog",
    dry_run: DryRun = False,
    as_json: AsJSON = False,
    config: Config = None,
    data_dir: DataDir = None,
) -> None:
    """Have the present model read studies again. What it has read already, as they are now, stays.

    Today's patients come first all the same; a study that waits already is moved up by --priority.

    Example: litegpt-node rerun --since 2024-01-01 --label Pneumothorax --dry-run
    """
    settings = settings_of_process(config, data_dir=data_dir)
    _run(Rerun(_completion(settings), _priority(priority)), chosen, settings, dry_run, as_json)


def retry(
    chosen: Chosen,
    priority: NewPriority = "",
    dry_run: DryRun = False,
    as_json: AsJSON = False,
    config: Config = None,
    data_dir: DataDir = None,
) -> None:
    """Take studies out of quarantine and analyse them, with all attempts before them again.

    Example: litegpt-node retry --state failed
    """
    settings = settings_of_process(config, data_dir=data_dir)
    _run(Retry(_priority(priority) if priority else None), chosen, settings, dry_run, as_json)


def cancel(
    chosen: Chosen,
    dry_run: DryRun = False,
    as_json: AsJSON = False,
    config: Config = None,
    data_dir: DataDir = None,
) -> None:
    """End what is under way: analyses that wait or run, results that are due, and what was due or refused of
    images that are passed on and of webhooks. `rerun` and `resend` undo it.

    Example: litegpt-node cancel --state queued --since 2024-05-01
    """
    settings = settings_of_process(config, data_dir=data_dir)
    _run(Cancel(who()), chosen, settings, dry_run, as_json)


def force(
    chosen: Chosen,
    dry_run: DryRun = False,
    as_json: AsJSON = False,
    config: Config = None,
    data_dir: DataDir = None,
) -> None:
    """Complete studies now, without waiting for their quiet period.

    Example: litegpt-node force --state receiving
    """
    settings = settings_of_process(config, data_dir=data_dir)
    _run(Force(_completion(settings)), chosen, settings, dry_run, as_json)


def resend(
    chosen: Chosen,
    to: To = "",
    again: Again = False,
    priority: AtPriority = "routine",
    dry_run: DryRun = False,
    as_json: AsJSON = False,
    config: Config = None,
    data_dir: DataDir = None,
) -> None:
    """Send again what was refused, once the destination has been set up to take it: results, images that are
    passed on, and calls of webhooks.

    Example: litegpt-node resend --state refused --to PACS@10.0.0.5:104
    """
    settings = settings_of_process(config, data_dir=data_dir)
    _run(Resend(_destination(to, settings), again, _priority(priority)), chosen, settings, dry_run, as_json)


def _run(action: Action, chosen: Chosen, settings: Settings, dry_run: bool, as_json: bool) -> None:
    selection = chosen.selection(settings)
    records = open_records(settings)
    try:
        with studies_counted(action.name) as count:
            course = Course(records, who(), dry_run, count)
            tally = course.run(action, selection)
    finally:
        records.close()
    if as_json:
        typer.echo(json.dumps({"action": action.name, "dry_run": dry_run, "outcome": tally}))
        return
    Console(highlight=False, soft_wrap=True).print(_line(action, tally, dry_run))


def _line(action: Action, tally: Tally, dry_run: bool) -> Text:
    counts = ", ".join(f"{count:,} {outcome}" for outcome, count in tally.most_common())
    would = " (nothing was changed)" if dry_run else ""
    return Text(f"{action.name}: {counts or 'nothing that fits'}{would}")


def _completion(settings: Settings) -> Completion:
    return Completion.of(settings, read_identity(settings.model))


def _priority(name: str) -> Priority:
    try:
        return Priority[name.upper()]
    except KeyError:
        raise SettingsError(f"--priority is {_PRIORITIES}, not {name!r}") from None


def _destination(text: str, settings: Settings) -> Destination | None:
    """A destination that is set up is known by its address; what another wants is said with it."""
    if not text:
        return None
    given = destination_of(text)
    configured = {destination.address: destination for destination in settings.destinations}
    return configured.get(text.strip(), given)


def who() -> str:
    """Who asks, for the audit."""
    return f"{getpass.getuser()}, command line"
