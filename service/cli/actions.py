"""Commands that do something to studies: ``rerun``, ``retry``, ``cancel``, ``force``, ``resend``."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.text import Text

from service.actions.action import Action, Course, Tally
from service.actions.analysing import Cancel, Force, Rerun, Retry
from service.actions.resending import Resend
from service.cli.choosing import Chosen, choosing
from service.cli.options import AsJSON, Config, DataDir, destination_of, open_records, settings_of_process
from service.cli.progress import studies_counted
from service.cli.who import who
from service.completion import Completion
from service.errors import SettingsError
from service.models.roster import roster_of
from service.peers import Destination
from service.records.database import Records
from service.records.states import Priority
from service.rules.rulebook import Rules
from service.settings import Settings

ByModel = Annotated[
    str,
    typer.Option(
        "--model",
        metavar="MODEL",
        help='Not by the active one: "ID VERSION", or a version, of `models list`.',
    ),
]
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
    model: ByModel = "",
    priority: AtPriority = "backlog",
    dry_run: DryRun = False,
    as_json: AsJSON = False,
    config: Config = None,
    data_dir: DataDir = None,
) -> None:
    """Have the active model, or another, read studies again. What it has read of them already stays.

    Today's patients come first all the same; a study that waits already is moved up by --priority. What the
    shadow model reads is compared, and delivers nothing or to its test destination alone.

    Example: litegpt-node rerun --since 2024-01-01 --label Pneumothorax --dry-run
    """
    settings = settings_of_process(config, data_dir=data_dir)
    urgency = _priority(priority)
    run_action(lambda records: _rerun(settings, records, model, urgency), chosen, settings, dry_run, as_json)


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
    action = Retry(_priority(priority) if priority else None)
    run_action(lambda _: action, chosen, settings, dry_run, as_json)


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
    run_action(lambda _: Cancel(who()), chosen, settings, dry_run, as_json)


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
    run_action(
        lambda records: Force(Completion.at_present(settings, records)), chosen, settings, dry_run, as_json
    )


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
    action = Resend(_destination(to, settings), again, _priority(priority))
    run_action(lambda _: action, chosen, settings, dry_run, as_json)


def run_action(
    action_on: Callable[[Records], Action], chosen: Chosen, settings: Settings, dry_run: bool, as_json: bool
) -> None:
    """Does something to the chosen studies, and says what came of it.

    Raises:
        SettingsError: If the options choose nothing, or what cannot be.
    """
    selection = chosen.selection(settings)
    records = open_records(settings)
    try:
        action = action_on(records)
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


def _rerun(settings: Settings, records: Records, name: str, priority: Priority) -> Rerun:
    completion = Completion.at_present(settings, records)
    if not name:
        return Rerun(completion, priority)
    with records.reading() as session:
        model = roster_of(session, settings).reader_called(name)
    return Rerun.by(model, completion, priority)


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
    return Rules.read(settings).destination_called(text.strip()) or given
