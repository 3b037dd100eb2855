"""Commands about old studies at a PACS: ``find`` lists them, ``retrieve`` makes a job of it.

No patient's name is asked for. What came over the network is printed as plain text, never as rich's markup.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, TypeVar

import typer
from rich.console import Console
from rich.text import Text

from service import heartbeat
from service.cli.jobs import wait_for
from service.cli.options import AsJSON, Config, DataDir, open_records, settings_of_process
from service.cli.printable import printable
from service.cli.who import who
from service.peers import Destination
from service.records.database import utc_now
from service.retrieval.accessions import read_accession_numbers
from service.retrieval.filters import Filters
from service.retrieval.finding import find as find_studies
from service.retrieval.foresight import Foreseen, foresee
from service.retrieval.order import Order, read_filters, read_rate, read_source, read_window
from service.retrieval.retriever import PART
from service.settings import Settings
from service.wire.query import FoundStudy, querying
from service.wire.retrieval import Method

Given = TypeVar("Given")
Read = TypeVar("Read")

Source = Annotated[str, typer.Option("--from", metavar="AET@HOST:PORT", help="The PACS.")]
Since = Annotated[
    datetime | None,
    typer.Option("--since", formats=["%Y-%m-%d"], metavar="DATE", help="Studies of that day or later."),
]
Until = Annotated[
    datetime | None,
    typer.Option(
        "--until", formats=["%Y-%m-%d"], metavar="DATE", help="That day or earlier; today by default."
    ),
]
Modalities = Annotated[
    list[str] | None,
    typer.Option("--modality", help="May be repeated; CR, DX and RG by default."),
]
BodyPart = Annotated[
    str, typer.Option("--body-part", help="A word in Body Part Examined; costs a question for each study.")
]
PatientID = Annotated[str, typer.Option("--patient-id", help="Studies of this patient.")]
AccessionNumbers = Annotated[
    list[str] | None, typer.Option("--accession-number", help="This study; may be repeated.")
]
Accessions = Annotated[
    str | None,
    typer.Option("--accessions", metavar="FILE[:COLUMN]", help="One a line, or a column of a CSV file."),
]
Get = Annotated[bool, typer.Option("--get", help="By C-GET; by C-MOVE to our AE title by default.")]
Rate = Annotated[float, typer.Option("--rate", min=0, help="Studies an hour at most; 0: no limit.")]
WindowText = Annotated[
    str, typer.Option("--window", metavar="HH:MM-HH:MM", help="Only then, each day, in the node's time zone.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Count what would be retrieved; make no job.")]
Again = Annotated[bool, typer.Option("--again", help="Retrieve studies too that the node has already.")]
Wait = Annotated[bool, typer.Option("--wait", help="Show progress until the job is done.")]


def register(app: typer.Typer) -> None:
    """Adds these commands."""
    for command in (find, retrieve):
        app.command()(command)


def find(
    source: Source,
    since: Since = None,
    until: Until = None,
    modality: Modalities = None,
    body_part: BodyPart = "",
    patient_id: PatientID = "",
    accession_number: AccessionNumbers = None,
    accessions: Accessions = None,
    config: Config = None,
    data_dir: DataDir = None,
    as_json: AsJSON = False,
) -> None:
    """List the studies of a PACS by day, modality, body part, patient or accession numbers (C-FIND).

    Example: litegpt-node find --from PACS@192.168.1.20:104 --since 2024-01-01

    Example: litegpt-node find --from PACS@192.168.1.20:104 --accessions trial.csv:Accession
    """
    settings = settings_of_process(config, data_dir=data_dir)
    peer = _read("--from", read_source, source)
    filters = _filters(settings, since, until, modality, body_part, patient_id, accession_number, accessions)
    with querying(settings, peer) as query:
        studies = find_studies(query, filters)
        (_print_found_json if as_json else _print_found)(peer, studies)


def retrieve(
    source: Source,
    since: Since = None,
    until: Until = None,
    modality: Modalities = None,
    body_part: BodyPart = "",
    patient_id: PatientID = "",
    accession_number: AccessionNumbers = None,
    accessions: Accessions = None,
    get: Get = False,
    rate: Rate = 0,
    window: WindowText = "",
    dry_run: DryRun = False,
    again: Again = False,
    wait: Wait = False,
    config: Config = None,
    data_dir: DataDir = None,
) -> None:
    """Retrieve old studies from a PACS, as a job that the running node works off, study by study.

    The job is kept in the database: it outlives this command, and a restart of the node. `litegpt-node job`
    pauses, resumes and cancels it. With --wait, exit code 1 where a study failed, 130 after Ctrl-C.

    Example: litegpt-node retrieve --from PACS@192.168.1.20:104 --since 2024-01-01 --dry-run

    Example: litegpt-node retrieve --from PACS@192.168.1.20:104 --since 2024-01-01 --window 20:00-06:00
    """
    settings = settings_of_process(config, data_dir=data_dir)
    peer = _read("--from", read_source, source)
    filters = _filters(settings, since, until, modality, body_part, patient_id, accession_number, accessions)
    order = Order(
        source=peer,
        filters=filters,
        method=Method.GET if get else Method.MOVE,
        again=again,
        rate_per_hour=_read("--rate", read_rate, rate),
        daily_window=_read("--window", read_window, window),
    )
    records = open_records(settings)
    # Whatever keeps it from answering at all is said now, and not to the job alone.
    with querying(settings, peer) as query:
        if dry_run:
            _print_foreseen(peer, foresee(records, query, filters))
            records.close()
            return
        query.check()
    with records.writing() as session:
        job_id = order.place(session, who(), utc_now())
    typer.echo(f"job {job_id}; litegpt-node job {job_id} tells how it goes")
    if not heartbeat.is_beating_anywhere(settings.data_dir, PART):
        typer.echo("No retriever runs now: the job waits for `litegpt-node up` (or `retriever`).", err=True)
    code = wait_for(records, job_id) if wait else 0
    records.close()
    raise typer.Exit(code)


def _read(hint: str, read: Callable[[Given], Read], given: Given) -> Read:
    try:
        return read(given)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=hint) from None


def _filters(
    settings: Settings,
    since: datetime | None,
    until: datetime | None,
    modalities: list[str] | None,
    body_part: str,
    patient_id: str,
    accession_numbers: list[str] | None,
    accessions: str | None,
) -> Filters:
    numbers = list(accession_numbers or ())
    if accessions:
        numbers += read_accession_numbers(accessions)
    try:
        return read_filters(
            utc_now().astimezone(settings.zone).date(),
            since.date() if since else None,
            until.date() if until else None,
            modalities=modalities,
            body_part=body_part,
            patient_id=patient_id,
            accession_numbers=tuple(dict.fromkeys(numbers)),
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _print_found(peer: Destination, studies: Iterator[FoundStudy]) -> None:
    """A line a study, as they come; there may be any number."""
    row = "{:<10}  {:<16}  {:<10}  {:>7}  {}".format
    print_line = Console(highlight=False, soft_wrap=True).print
    print_line(row("date", "accession", "modalities", "objects", "study"), style="bold")
    count = 0
    for study in studies:
        count += 1
        objects = "?" if study.objects is None else str(study.objects)
        modalities = "/".join(study.modalities) or "?"
        cells = (study.study_date, study.accession_number, modalities, objects, study.study_instance_uid)
        print_line(Text(row(*map(printable, cells))))
    print_line(f"{_studies(count)} at {peer}")


def _print_found_json(peer: Destination, studies: Iterator[FoundStudy]) -> None:
    """One object, written as its studies come."""
    typer.echo(f'{{\n  "from": {json.dumps(str(peer))},\n  "studies": [', nl=False)
    count = 0
    for count, study in enumerate(studies, start=1):
        typer.echo(f"{',' if count > 1 else ''}\n    {json.dumps(asdict(study))}", nl=False)
    typer.echo(f'],\n  "count": {count}\n}}')


def _print_foreseen(peer: Destination, foreseen: Foreseen) -> None:
    what = "" if foreseen.uncounted else f", {foreseen.objects} objects in all"
    studies = _studies(foreseen.studies)
    typer.echo(f"{studies} at {peer}{what}; of {foreseen.here} of them the node has something.")
    typer.echo("Nothing was retrieved: this was a dry run.")


def _studies(count: int) -> str:
    return f"{count} stud{'y' if count == 1 else 'ies'}"
