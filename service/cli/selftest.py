"""The command ``selftest``: the proof that a study comes in, is read, and reaches every destination."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from service.archive import Archive
from service.cli.options import AsJSON, Config, DataDir, open_records, settings_of_process
from service.errors import SettingsError
from service.selftest import Phase, Selftest
from service.settings import Destination, Settings
from service.supervisor import running_port

Timeout = Annotated[float, typer.Option("--timeout", min=1, help="Seconds for all of it.")]
At = Annotated[
    str, typer.Option("--listener", metavar="HOST:PORT", help="Where the node listens, if not here.")
]


def register(app: typer.Typer) -> None:
    """Adds this command."""
    app.command()(selftest)


def selftest(
    config: Config = None,
    data_dir: DataDir = None,
    listener: At = "",
    timeout: Timeout = 120,
    as_json: AsJSON = False,
) -> None:
    """Send a synthetic study in as a modality would, and follow it to every destination.

    It is delivered like any other: each destination then holds a report of a patient called "Selftest". From
    the node it is removed again. Exit code 0 where it came through, 1 with what is missing.

    Example: litegpt-node selftest --timeout 60
    """
    settings = settings_of_process(config, data_dir=data_dir)
    records = open_records(settings)
    run = Selftest(settings, records, Archive(settings.data_dir), _listener(settings, listener), timeout)
    console = Console(highlight=False, soft_wrap=True)
    phases = []
    try:
        for phase in run.run():
            phases.append(phase)
            if not as_json:
                console.print(_line(phase))
    finally:
        records.close()
    missing = any(phase.missing for phase in phases)
    if as_json:
        told = {"study": run.study_instance_uid, "in_order": not missing, "phases": list(map(asdict, phases))}
        typer.echo(json.dumps(told))
    elif not missing:
        console.print(f"in order, {sum(phase.seconds for phase in phases):.1f} s")
    raise typer.Exit(1 if missing else 0)


def _line(phase: Phase) -> Text:
    mark, colour = ("no ", "red") if phase.missing else ("ok ", "green")
    return Text.assemble((mark, colour), f" {phase.seconds:6.1f} s  {phase.name}  {phase.missing}".rstrip())


def _listener(settings: Settings, named: str) -> Destination:
    if not named:
        port = running_port(settings.data_dir) or settings.dicom_port
        named = f"127.0.0.1:{port}"
    try:
        return Destination.parse(f"{settings.ae_title}@{named}")
    except ValueError:
        raise SettingsError(f"--listener is written HOST:PORT, not {named!r}") from None
