"""The command ``purge``: files of settled studies go, by age and for room, from a cron job as well; or all
that the node holds of a patient."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.text import Text

from service.actions.purging import Limits, Purge, Purged
from service.archive import Archive
from service.cli.actions import DryRun
from service.cli.erasing import AlsoStudies, EvenIfOpen, Issuer, PatientId, Yes, erase
from service.cli.options import AsJSON, Config, DataDir, duration, open_records, settings_of_process
from service.cli.progress import studies_counted
from service.cli.who import who
from service.erasing.erasure import Erasure
from service.errors import SettingsError
from service.records.database import utc_now
from service.settings import Settings

_UNITS: Final = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}

OlderThan = Annotated[
    str,
    typer.Option("--older-than", metavar="DURATION", help="Studies whose last image came longer ago: 90d."),
]
UntilFree = Annotated[
    str,
    typer.Option("--until-free", metavar="SIZE", help="Until so much of the archive's disk is free: 200G."),
]


def register(app: typer.Typer) -> None:
    """Adds this command."""
    app.command()(purge)


def purge(
    older_than: OlderThan = "",
    until_free: UntilFree = "",
    patient: PatientId = None,
    issuer: Issuer = None,
    study: AlsoStudies = None,
    even_if_open: EvenIfOpen = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: AsJSON = False,
    config: Config = None,
    data_dir: DataDir = None,
) -> None:
    """Remove images and results of settled studies from the disk, the oldest first; findings are kept.

    What is received, queued, analysed, due, refused, in quarantine or in conflict stays. Exit code 1 where
    not as much is free as was asked for, though all that may go is gone.

    With --patient all that the node holds of a patient goes instead, findings and rows as well. What is not
    settled, not committed to, or promised stays and is named: exit code 1.

    Example: litegpt-node purge --older-than 90d --until-free 200G --dry-run

    Example: litegpt-node purge --patient 4711 --issuer HOSPITAL --dry-run
    """
    if patient is not None:
        if older_than or until_free:
            raise SettingsError("--patient takes all, of any age: no --older-than, no --until-free with it")
        settings = settings_of_process(config, data_dir=data_dir)
        erase(settings, patient, issuer, study or [], even_if_open, yes, dry_run, as_json)
    if issuer is not None or study or even_if_open or yes:
        raise SettingsError("--issuer, --study, --even-if-open and --yes go with --patient")
    limits = _limits(older_than, until_free)
    settings = settings_of_process(config, data_dir=data_dir)
    purged = _purge(settings, limits, dry_run)
    if as_json:
        typer.echo(json.dumps({"dry_run": dry_run, **asdict(purged)}))
    else:
        Console(highlight=False, soft_wrap=True).print(_line(purged, dry_run))
        if not purged.enough:
            Console(stderr=True, highlight=False, soft_wrap=True).print(
                Text(f"less than {until_free} free, and nothing more that may go")
            )
    raise typer.Exit(0 if purged.enough else 1)


def _purge(settings: Settings, limits: Limits, dry_run: bool) -> Purged:
    records = open_records(settings)
    try:
        archive = Archive(settings.data_dir)
        archive.require_there()
        if not dry_run:
            Erasure(records, archive, who()).finish()
        with studies_counted("purge") as count:
            return Purge(records, archive, who(), dry_run, count).run(limits)
    finally:
        records.close()


def _limits(older_than: str, until_free: str) -> Limits:
    if not (older_than or until_free):
        raise SettingsError("how far? --older-than 90d, --until-free 200G, or both; or --patient ID")
    return Limits(
        received_before=utc_now() - duration(older_than) if older_than else None,
        free_bytes=_size(until_free) if until_free else None,
    )


def _size(text: str) -> int:
    match = re.fullmatch(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)([KMGT]?)B?", text.strip().upper())
    if not match:
        raise typer.BadParameter(
            f"a size is written 500M, 200G or 1.5T, not {text!r}", param_hint="--until-free"
        )
    return int(float(match[1]) * _UNITS[match[2]])


def _line(purged: Purged, dry_run: bool) -> Text:
    would = " (nothing was changed)" if dry_run else ""
    return Text(
        f"purge: {purged.studies:,} studies, {purged.images:,} images and {purged.results:,} results, "
        f"{purged.size_bytes / 1e9:,.3f} GB{would}"
    )
