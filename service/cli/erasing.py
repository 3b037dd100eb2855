"""``purge --patient``: what would go is shown, then a person says yes, then it goes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Annotated, Final, NoReturn

import typer
from rich.console import Console
from rich.text import Text

from service.archive import Archive
from service.cli.options import open_records
from service.cli.progress import studies_counted
from service.cli.who import who
from service.erasing.erasure import Content, Erased, Erasure, Outlook
from service.erasing.search import Found, Wanted, search
from service.errors import SettingsError
from service.records.database import Records
from service.records.overview import show_study
from service.settings import Settings

_STDIN: Final = "-"

PatientId = Annotated[
    str | None,
    typer.Option(
        "--patient",
        metavar="PATIENT_ID",
        help="All of this patient, for good. `-` reads the id from standard input: what stands on a command "
        "line, others on the machine can see.",
    ),
]
Issuer = Annotated[
    str | None,
    typer.Option("--issuer", help="Issuer of Patient ID, where ids of several are here; '' is none."),
]
AlsoStudies = Annotated[
    list[str] | None,
    typer.Option("--study", help="The patient's, too, though no file says so any more. May be repeated."),
]
EvenIfOpen = Annotated[
    bool,
    typer.Option(
        "--even-if-open",
        help="Also what is not settled, not committed to, promised, or mixed with another id.",
    ),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask first.")]


def erase(
    settings: Settings,
    patient: str,
    issuer: str | None,
    studies: Sequence[str],
    even_if_open: bool,
    yes: bool,
    dry_run: bool,
    as_json: bool,
) -> NoReturn:
    """Shows what the node holds of a patient, and removes it where that is wanted.

    Raises:
        SettingsError: If it is not clear who is meant, or nobody could say yes.
        OutOfResources: If the database or the archive is away.
        typer.Exit: With 1 where something stays.
    """
    wanted = Wanted.of(sys.stdin.readline() if patient == _STDIN else patient, issuer)
    if not (yes or dry_run) and (as_json or not sys.stdin.isatty()):
        raise SettingsError("nobody to ask here: look at --dry-run first, then say --yes")
    records, archive = open_records(settings), Archive(settings.data_dir)
    console = Console(highlight=False, soft_wrap=True, quiet=as_json)
    try:
        archive.require_there()
        erasure = Erasure(records, archive, who())
        if not dry_run:
            erasure.finish()
        found = _search(records, archive, wanted, studies)
        outlook = erasure.look(found, wanted.id)
        for line in _lines(found, outlook):
            console.print(line)
        if dry_run:
            erased = None
            console.print("Nothing was changed.")
        else:
            if not yes:
                typer.confirm("Remove it for good?", abort=True)
            erased = erasure.run(found, wanted.id, even_if_open=even_if_open)
            for line in _came(erased):
                console.print(line)
    finally:
        records.close()
    if as_json:
        typer.echo(json.dumps(_as_json(found, outlook, erased), indent=2))
    raise typer.Exit(0 if _is_all(found, outlook, erased, even_if_open=even_if_open) else 1)


def _search(records: Records, archive: Archive, wanted: Wanted, studies: Sequence[str]) -> Found:
    with records.reading() as session:
        named = [show_study(session, name).study_instance_uid for name in studies]
    with studies_counted("purge: looked through") as count:
        found = search(archive, wanted, named, count)
    if found.is_ambiguous:
        issuers = ", ".join(sorted(issuer or "''" for issuer in found.issuers))
        raise SettingsError(f"several give out this id, so it may be of several people: --issuer {issuers}?")
    return found


def _lines(found: Found, outlook: Outlook) -> Iterator[Text]:
    """What would go, and what an admin should know of the rest."""
    yield from map(_of_study, outlook.studies)
    of_all = outlook.studies
    files, size = sum(one.files for one in of_all), sum(one.size_bytes for one in of_all)
    rows = sum(one.rows for one in of_all)
    yield Text(f"{len(of_all):,} studies, {files:,} files, {size / 1e6:,.1f} MB, {rows:,} rows")
    if found.arriving:
        yield Text(f"{found.arriving} images are just being received")
    if found.others:
        yield Text(f"{found.others} studies have this id of another issuer, or of none; they stay")
    if found.unread:
        yield Text(f"files that do not say whose they are: {', '.join(found.unread)}")
    if outlook.anonymous:
        yield Text(
            f"{outlook.anonymous} studies were purged before, so nothing here says whose they are: "
            "where the PACS knows, name them with --study"
        )
    for job in outlook.jobs:
        yield Text(f"job {job} asks a PACS for this patient: `litegpt-node job {job} --cancel` first")
    if outlook.recipients:
        yield Text(
            f"These have got some of it, and what they keep is theirs: {', '.join(outlook.recipients)}"
        )
    yield Text("Backups and exports hold what they held, and logs UIDs, until they are overwritten.")


def _of_study(one: Content) -> Text:
    what = f"{one.images} images, {one.results} results, {one.files} files, {one.rows} rows"
    stays = "".join(f"\n    stays: {reason}" for reason in one.hindrances)
    return Text(f"{one.study_instance_uid}  {one.accession_number}  {one.study_date}  {what}{stays}")


def _came(erased: Erased) -> Iterator[Text]:
    size = f"{erased.size_bytes / 1e6:,.1f} MB"
    yield Text(f"purged: {erased.studies:,} studies, {erased.files:,} files, {size}, {erased.rows:,} rows")
    for uid, reasons in erased.stay.items():
        yield Text(f"{uid} stays: {'; '.join(reasons)}. Wait, `cancel` it, or say --even-if-open")
    for uid in erased.again:
        yield Text(f"{uid}: something of it has only just come. Say it again in a quarter of an hour")


def _as_json(found: Found, outlook: Outlook, erased: Erased | None) -> dict[str, object]:
    """Without the patient's id, which is nobody's business where this is kept."""
    return {
        "dry_run": erased is None,
        **asdict(outlook),
        "arriving": found.arriving,
        "other_issuers": found.others,
        "unread": found.unread,
        "purged": None if erased is None else asdict(erased),
    }


def _is_all(found: Found, outlook: Outlook, erased: Erased | None, *, even_if_open: bool) -> bool:
    """Whether nothing of the patient is left, or would be."""
    if found.arriving or outlook.jobs:
        return False
    if erased is None:
        return even_if_open or not any(one.hindrances for one in outlook.studies)
    return not (erased.stay or erased.again)
