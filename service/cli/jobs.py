"""Commands about retrieval jobs: ``jobs`` lists them; ``job`` shows, pauses, resumes, cancels one."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text
from sqlalchemy.orm import Session

from service.cli.options import AsJSON, Config, DataDir, open_records, settings_of_process
from service.cli.printable import printable
from service.cli.who import who
from service.records import retrieval_jobs
from service.records.database import Records, utc_now
from service.records.retrieval_jobs import JobView
from service.records.states import JobState, RetrievalState
from service.retrieval.filters import Filters
from service.retrieval.steering import Step, steer

_LISTED: Final = 20
_ENDS: Final = (RetrievalState.DONE, RetrievalState.SKIPPED, RetrievalState.FAILED)
_LOOKS_EVERY_SECONDS: Final = 0.5

JobID = Annotated[int, typer.Argument(metavar="ID", help="As `jobs` lists it.")]


def register(app: typer.Typer) -> None:
    """Adds these commands."""
    for command in (jobs, job):
        app.command()(command)


def jobs(
    config: Config = None,
    data_dir: DataDir = None,
    as_json: AsJSON = False,
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 50,
) -> None:
    """List the jobs that retrieve old studies."""
    records = open_records(settings_of_process(config, data_dir=data_dir))
    with records.reading() as session:
        views = retrieval_jobs.list_jobs(session, limit)
    records.close()
    if as_json:
        typer.echo(json.dumps([_as_json(view) for view in views], indent=2))
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("job", "from", "state", "studies", *_ENDS, "open", "asks for"):
        table.add_column(heading, overflow="fold")
    for view in views:
        counts = (view.studies, *(view.counts[end] for end in _ENDS), view.open)
        table.add_row(*map(Text, (str(view.id), view.source, view.state, *map(str, counts), _asked(view))))
    Console().print(table if views else "no jobs yet")


def job(
    job_id: JobID,
    pause: Annotated[bool, typer.Option("--pause", help="Stop after the study in hand.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on.")] = False,
    cancel: Annotated[bool, typer.Option("--cancel", help="End it; what waits is not retrieved.")] = False,
    retry: Annotated[bool, typer.Option("--retry", help="Try the failed studies again.")] = False,
    list_all: Annotated[bool, typer.Option("--all", help=f"List all, not the first {_LISTED}.")] = False,
    config: Config = None,
    data_dir: DataDir = None,
    as_json: AsJSON = False,
) -> None:
    """Show a job and the studies that failed; or pause, resume, cancel or retry it.

    Exit code 1 where studies failed, or the job paused itself.

    Example: litegpt-node job 3 --pause
    """
    given = zip(Step, (pause, resume, cancel, retry), strict=True)
    steps = [step for step, wanted in given if wanted]
    if len(steps) > 1:
        raise typer.BadParameter(f"--{steps[0]} or --{steps[1]}, not both")
    records = open_records(settings_of_process(config, data_dir=data_dir))
    for step in steps:
        with records.writing() as session:
            typer.echo(steer(session, job_id, step, who(), utc_now()), err=as_json)
    limit = None if list_all or as_json else _LISTED
    with records.snapshot() as session:
        view = retrieval_jobs.show_job(session, job_id)
        (_print_json if as_json else _print)(session, view, limit)
    records.close()
    raise typer.Exit(0 if steps else _code(view))


def wait_for(records: Records, job_id: int) -> int:
    """Shows a job's progress until it ends or pauses; returns the exit code."""
    try:
        view = _watch(records, job_id)
    except KeyboardInterrupt:
        typer.echo(f"job {job_id} stays and goes on; litegpt-node job {job_id} --pause stops it", err=True)
        return 130
    with records.snapshot() as session:
        _print(session, view, _LISTED)
    return _code(view)


def _watch(records: Records, job_id: int) -> JobView:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("finding", total=None)
        while True:
            with records.reading() as session:
                view = retrieval_jobs.show_job(session, job_id)
            if view.found_at is None:
                total = Filters.model_validate_json(view.filters).question_count
                progress.update(task, total=total, completed=view.questions_answered)
            else:
                progress.update(task, total=view.studies, completed=view.studies - view.open)
            failed = f", {view.failed} failed" if view.failed else ""
            stage = "finding" if view.found_at is None else "retrieving"
            progress.update(task, description=printable(f"{stage}{failed} {view.error}".strip()))
            if not view.is_active:
                return view
            time.sleep(_LOOKS_EVERY_SECONDS)


def _code(view: JobView) -> int:
    return 1 if view.failed or (view.state == JobState.PAUSED and view.error) else 0


def _print(session: Session, view: JobView, limit: int | None) -> None:
    console = Console(highlight=False, soft_wrap=True)
    for line in _lines(session, view, limit):
        console.print(Text(printable(line)))


def _lines(session: Session, view: JobView, limit: int | None) -> Iterator[str]:
    rate = f"{view.rate_per_hour:g} an hour at most" if view.rate_per_hour else ""
    when = f"from {view.daily_window}" if view.daily_window else ""
    how = (f"C-{view.method.upper()}", rate, when, "again" if view.again else "")
    yield f"job       {view.id}  {view.state}{f': {view.error}' if view.error else ''}"
    yield f"from      {view.source}  {', '.join(filter(None, how))}"
    yield f"asks for  {_asked(view)}"
    counts = ", ".join(f"{count} {state}" for state, count in view.counts.items() if count)
    yield f"studies   {view.studies}{f': {counts}' if counts else ''}"
    yield from _pace(view, utc_now())
    missing = _missing(session, view)
    if missing:
        named = missing if limit is None else missing[:limit]
        yield f"not found {_numbers(len(missing))}: {', '.join(named)}{_more(missing, named)}"
    shown = 0
    for failed in retrieval_jobs.failed_studies(session, view.id, limit):
        shown += 1
        yield (
            f"failed    {failed.study_instance_uid}  {failed.accession_number or '-'}"
            f"  after {failed.attempts} attempts: {failed.error}"
        )
    if shown < view.failed:
        yield f"          {view.failed - shown} more (--all)"


def _pace(view: JobView, now: datetime) -> Iterator[str]:
    images = view.progress
    if images.images_expected:
        yield f"images    {images.images_come} of {images.images_expected} in the studies asked for so far"
    left = view.time_left(now)
    if view.is_active and view.open and left is not None:
        yield f"pace      {view.an_hour(now):.0f} studies an hour, {str(left).partition('.')[0]} left"


def _more(all_of_them: list[str], named: list[str]) -> str:
    return f" and {len(all_of_them) - len(named)} more (--all)" if len(named) < len(all_of_them) else ""


def _missing(session: Session, view: JobView) -> list[str]:
    asked = Filters.model_validate_json(view.filters).accession_numbers
    return retrieval_jobs.not_found(session, view.id, asked) if view.found_at is not None else []


def _print_json(session: Session, view: JobView, limit: int | None) -> None:
    failures = [asdict(failed) for failed in retrieval_jobs.failed_studies(session, view.id, limit)]
    for failure in failures:
        del failure["id"]  # of a row, which means nothing elsewhere
    typer.echo(
        json.dumps({**_as_json(view), "not_found": _missing(session, view), "failures": failures}, indent=2)
    )


def _as_json(view: JobView) -> dict[str, Any]:
    moments = ("created_at", "found_at", "finished_at", "not_before")
    fields = asdict(view)
    progress = fields.pop("progress")
    return {
        **fields,
        "counts": progress["counts"],
        "images": {"expected": progress["images_expected"], "come": progress["images_come"]},
        "filters": json.loads(view.filters),
        **{name: fields[name].isoformat() if fields[name] else None for name in moments},
    }


def _asked(view: JobView) -> str:
    return Filters.model_validate_json(view.filters).in_words(with_patient=True)


def _numbers(count: int) -> str:
    return f"{count} accession number{'' if count == 1 else 's'}"
