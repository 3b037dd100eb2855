"""Commands about studies: ``studies`` lists them, ``show`` tells all of one.

What came over the network is printed as ``Text``, never as rich's markup: a body part may be ``HAND[/L]``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from service.cli.options import AsJSON, Config, DataDir, open_records, settings_of_process
from service.records import overview
from service.records.attempts import Attempt
from service.records.overview import DeliveryView, FindingView, ImageView, StudyView

DEMONSTRATION: Final = (
    "The findings are those of a demonstration model trained on synthetic images and mean nothing."
)

StudyName = Annotated[str, typer.Argument(help="Study Instance UID or its beginning, or accession number.")]

_COLOURS = {
    "delivered": "green",
    "done": "green",
    "not-applicable": "dim",
    "failed": "red",
    "refused": "red",
    "delivering": "yellow",
}


def register(app: typer.Typer) -> None:
    """Adds these commands."""
    for command in (studies, show):
        app.command()(command)


def studies(
    config: Config = None,
    data_dir: DataDir = None,
    as_json: AsJSON = False,
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 50,
) -> None:
    """List the studies and where each of them stands."""
    records = open_records(settings_of_process(config, data_dir=data_dir))
    with records.reading() as session:
        views = overview.list_studies(session, limit)
    records.close()
    if as_json:
        typer.echo(json.dumps([view.as_json() for view in views], indent=2))
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("study", "accession", "date", "images", "state", "findings", "remark"):
        table.add_column(heading, overflow="fold")
    for view in views:
        table.add_row(*_row(view))
    console = Console()
    console.print(table if views else "no studies yet")
    _warn_of_demonstration(console, views)


def show(study: StudyName, config: Config = None, data_dir: DataDir = None, as_json: AsJSON = False) -> None:
    """Tell everything about one study."""
    records = open_records(settings_of_process(config, data_dir=data_dir))
    with records.reading() as session:
        view = overview.show_study(session, study)
    records.close()
    if as_json:
        typer.echo(json.dumps(view.as_json(), indent=2))
        return
    console = Console(highlight=False, soft_wrap=True)
    for line in _lines(view):
        console.print(line)
    _warn_of_demonstration(console, [view])


def finding_text(finding: FindingView) -> str:
    """One finding in a line: label, score, the box in pixels as [left top right bottom], whether reported."""
    words = [f"{finding.label} {finding.score:.2f}"]
    if finding.box is not None:
        words.append("[{:.0f} {:.0f} {:.0f} {:.0f}]".format(*finding.box))
    if not finding.reported:
        words.append("(below threshold)")
    return " ".join(words)


def _warn_of_demonstration(console: Console, views: Sequence[StudyView]) -> None:
    if any(view.demonstration for view in views):
        console.print(DEMONSTRATION, style="yellow")


def _lines(view: StudyView) -> Iterator[Text]:
    yield Text(f"study     {view.study_instance_uid}  {view.accession_number}")
    yield Text.assemble("state     ", coloured(view.outcome), f"  {view.error}")
    yield Text(f"analysis  {view.analysis_id or '-'}  attempt {view.attempt}  {view.model}")
    for image in view.images:
        sender = image.calling_ae_title or "?"
        yield Text(f"image     {image.sop_instance_uid}  from {sender}  {_file(image)}")
        for line in _about(image):
            yield Text(f"          {line}")
    for delivery in view.deliveries:
        when = f"{delivery.sent_at:%Y-%m-%d %H:%M:%S} UTC" if delivery.sent_at else ""
        what = f"{delivery.sop_class} to {delivery.destination}"
        waits = ", not committed to yet" if delivery.awaits_commitment else ""
        yield Text(f"delivery  {what}  {delivery.state}{waits}  {when}  {delivery.error}".rstrip())
        yield Text(f"          {_file(delivery)}")
        yield from map(_attempt, delivery.attempts or ())
    for call in view.calls:
        when = f"{call.sent_at:%Y-%m-%d %H:%M:%S} UTC" if call.sent_at else ""
        yield Text(f"webhook   {call.webhook}  {call.state}  {when}  {call.error}".rstrip())
        yield from map(_attempt, call.attempts or ())


def _attempt(one: Attempt) -> Text:
    since = f"{one.count} times since {one.first_at:%Y-%m-%d %H:%M:%S}, last " if one.count > 1 else ""
    took = "" if one.seconds is None else f"  {one.seconds:.1f} s"
    when = f"{since}{one.last_at:%Y-%m-%d %H:%M:%S} UTC"
    return Text(f"          attempt {one.attempt}  {when}  {one.outcome}{took}  {one.said}  by {one.worker}")


def _file(of: ImageView | DeliveryView) -> str:
    return f"purged {of.purged_at:%Y-%m-%d %H:%M} UTC" if of.purged_at else of.path


def coloured(outcome: str) -> Text:
    """Where a study stands, in the colour of that."""
    return Text(outcome, style=_COLOURS.get(outcome, "cyan"))


def _about(image: ImageView) -> list[str]:
    if image.reason or image.not_read:
        return [image.reason or f"not read: {image.not_read}"]
    return [finding_text(finding) for finding in image.findings]


def _row(view: StudyView) -> tuple[Text, ...]:
    analysed = sum(not image.reason for image in view.images)
    boxed = [finding for image in view.images for finding in image.findings if finding.box]
    return (
        Text(view.study_instance_uid),
        Text(view.accession_number),
        Text(view.study_date),
        Text(f"{analysed}/{len(view.images)}"),
        coloured(view.outcome),
        Text(str(sum(finding.reported for finding in boxed)) if view.analysis_state == "done" else ""),
        Text(view.remark),
    )
