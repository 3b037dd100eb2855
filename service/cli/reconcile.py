"""The command ``reconcile``: received = analysed = delivered, or what is missing and why, for a cron job."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from itertools import chain
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from service.cli.options import (
    AsJSON,
    Config,
    DataDir,
    Since,
    Until,
    begin_of,
    duration,
    end_of,
    open_records,
    settings_of_process,
)
from service.records.database import utc_now
from service.records.reconciliation import Sums, UnsettledStudy, sum_up, unsettled
from service.records.standing import Question, Verdict

LISTED: Final = 20

_COLOURS: Final = {Verdict.SETTLED: "green", Verdict.OPEN: "yellow", Verdict.STUCK: "red"}

OlderThan = Annotated[
    str,
    typer.Option(
        "--older-than", metavar="DURATION", help="An open study is stuck from this age on: 30m, 2h, 3d."
    ),
]
All = Annotated[bool, typer.Option("--all", help=f"List every open or stuck study, not the {LISTED} oldest.")]


def register(app: typer.Typer) -> None:
    """Adds this command."""
    app.command()(reconcile)


def reconcile(
    config: Config = None,
    data_dir: DataDir = None,
    older_than: OlderThan = "1h",
    since: Since = None,
    until: Until = None,
    list_all: All = False,
    as_json: AsJSON = False,
) -> None:
    """Say whether everything received was analysed, delivered, and committed to; what is missing and why.

    Only what request_commitment_from names is waited for to commit.
    A study is settled, open (on its way), or stuck: in quarantine, refused, in conflict, or open too long.
    Exit code 1 where one is stuck, else 0. A study was received when its last receiving period began.
    """
    limit = duration(older_than)
    settings = settings_of_process(config, data_dir=data_dir)
    days = begin_of(since, settings.zone), end_of(until, settings.zone)
    question = Question(utc_now(), limit, *days)
    records = open_records(settings)
    with records.snapshot() as session:
        sums = sum_up(session, question)
        studies = unsettled(session, question, None if list_all else LISTED)
        (_print_json if as_json else _print)(question, sums, studies, list_all)
    records.close()
    raise typer.Exit(1 if sums.studies(Verdict.STUCK) else 0)


def _print_json(question: Question, sums: Sums, studies: Iterator[UnsettledStudy], list_all: bool) -> None:
    """One object, written as its studies are read."""
    head = {
        "at": question.now.isoformat(),
        "older_than_seconds": int(question.older_than.total_seconds()),
        "since": question.since.isoformat() if question.since else None,
        "until": question.until.isoformat() if question.until else None,
        "in_order": not sums.studies(Verdict.STUCK),
        **sums.as_json(),
        "not_listed": _not_listed(sums, list_all),
    }
    typer.echo(f'{json.dumps(head, indent=2)[:-2]},\n  "unsettled": [', nl=False)
    for number, study in enumerate(studies):
        typer.echo(f"{',' if number else ''}\n    {json.dumps(_as_json(study, question))}", nl=False)
    typer.echo("]\n}")


def _as_json(study: UnsettledStudy, question: Question) -> dict[str, Any]:
    return {
        "study_instance_uid": study.study_instance_uid,
        "accession_number": study.accession_number,
        "verdict": study.verdict,
        "state": study.state,
        "since": study.since.isoformat(),
        "age_seconds": int((question.now - study.since).total_seconds()),
        "reasons": [
            {"what": reason.what, "since": reason.since.isoformat(), "remedy": reason.remedy}
            for reason in study.reasons
        ],
    }


def _print(question: Question, sums: Sums, studies: Iterator[UnsettledStudy], list_all: bool) -> None:
    console = Console(highlight=False, soft_wrap=True)
    for table in (_studies_table(sums), _images_table(sums), _deliveries_table(sums)):
        if table.row_count:
            console.print(table)
            console.print()
    for line in chain.from_iterable(_lines(study, question) for study in studies):
        console.print(line)
    if more := _not_listed(sums, list_all):
        console.print(f"and {more} more: --all lists them")
    stuck = sums.studies(Verdict.STUCK)
    console.print(Text(f"{stuck} stuck" if stuck else "in order", style="red" if stuck else "green"))


def _not_listed(sums: Sums, list_all: bool) -> int:
    return 0 if list_all else max(0, sums.studies(Verdict.OPEN, Verdict.STUCK) - LISTED)


def _studies_table(sums: Sums) -> Table:
    table = _table("studies", "state", "number")
    table.add_row("received", "", str(sums.studies()))
    for verdict in Verdict:
        table.add_row(Text(verdict, style=_COLOURS[verdict]), "", str(sums.studies(verdict)))
        for row in sums.standings:
            if row.verdict is verdict:
                table.add_row("", row.state, str(row.studies))
    return table


def _images_table(sums: Sums) -> Table:
    table, images = _table("images", "reason", "number"), sums.images
    for name, count in (
        ("received", images.received),
        ("analysed", images.analysed),
        ("could not be read", images.not_read),
        ("wait for analysis", images.waiting),
        ("in quarantine", images.failed),
        ("cancelled", images.cancelled),
        ("in conflict", images.conflict),
        ("not to be analysed", images.not_eligible),
    ):
        if count or name in {"received", "analysed"}:
            table.add_row(name, "", str(count))
    for reason, count in images.reasons.items():
        table.add_row("", Text(reason), str(count))
    return table


def _deliveries_table(sums: Sums) -> Table:
    names = ["made", "delivered", "due", "refused", "replaced", "withdrawn"]
    if any(row.committed or row.uncommitted for row in sums.deliveries):
        names[2:2] = ["committed", "uncommitted"]
    table = _table("delivered to", "", *names)
    for row in sums.deliveries:
        table.add_row(Text(row.destination), row.objects, *(str(getattr(row, name)) for name in names))
    return table


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def _lines(study: UnsettledStudy, question: Question) -> Iterator[Text]:
    yield Text.assemble(
        (f"{study.verdict:<6}", _COLOURS[study.verdict]),
        f"{study.study_instance_uid}  {study.accession_number or '-'}  {study.state}",
        f"  {_age(question.now - study.since)}",
    )
    for reason in study.reasons:
        yield Text(f"      {reason.what}; since {reason.since:%Y-%m-%d %H:%M} UTC; {reason.remedy}")


def _age(age: timedelta) -> str:
    minutes = max(0, int(age.total_seconds()) // 60)
    days, hours = minutes // 1440, minutes // 60 % 24
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min"
