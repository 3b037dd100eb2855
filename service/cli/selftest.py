"""The command ``selftest``: a synthetic study through the node that runs, and what became of it."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from service.archive import Archive
from service.cli.options import AsJSON, Config, DataDir, DicomPort, open_records, settings_of_process
from service.peers import Destination
from service.selftest.course import Ending, Phase, SelfTest, remove_leftovers
from service.settings import Settings
from service.supervisor import running_port
from service.wire.listener import ourselves

_COLOURS: Final = {
    Ending.OK: "green",
    Ending.FAILED: "red",
    Ending.MISSING: "red",
    Ending.LEFT_OUT: "yellow",
}

Wanted = Annotated[
    list[str] | None,
    typer.Option(
        "--destination",
        metavar="AET@HOST:PORT",
        help="Wait for this one alone of those that the node delivers to; may be repeated.",
    ),
]
NoDelivery = Annotated[
    bool, typer.Option("--no-delivery", help="The report is made and stays here: nothing reaches any PACS.")
]
Timeout = Annotated[
    float, typer.Option("--timeout", min=1, metavar="SECONDS", help="How long it may take in the node.")
]


def register(app: typer.Typer) -> None:
    """Adds this command."""
    app.command()(selftest)


def selftest(
    config: Config = None,
    data_dir: DataDir = None,
    dicom_port: DicomPort = None,
    destination: Wanted = None,
    no_delivery: NoDelivery = False,
    timeout: Timeout = 120,
    as_json: AsJSON = False,
) -> None:
    """Send a synthetic study through the running node, time each phase, and remove it again.

    The report goes to every destination like any other, which is the proof: each PACS then HOLDS THE REPORT
    OF A TEST STUDY, of the patient LITEGPT-SELFTEST, and keeps it. --no-delivery has none delivered.

    Exit code 1 with what is missing where it does not arrive in time; then the study stays in the node for a
    look, and a later self-test removes it.

    Example: litegpt-node selftest --no-delivery --timeout 30
    """
    settings = settings_of_process(config, data_dir=data_dir, dicom_port=dicom_port)
    wanted = [_address(text) for text in destination or ()]
    if wanted and no_delivery:
        raise typer.BadParameter("--destination and --no-delivery exclude each other")
    # The table tells it.
    logging.getLogger("service.completion").setLevel(max(logging.WARNING, logging.root.level))
    records = open_records(settings)
    archive = Archive(settings.data_dir)
    remove_leftovers(records, archive)
    test = SelfTest(
        settings,
        records,
        archive,
        node=_node(settings, dicom_port),
        destinations=wanted,
        deliver=not no_delivery,
        timeout_seconds=timeout,
    )
    phases = []
    with Console(stderr=True).status("sending a test study") as status:
        for phase in test.run():
            phases.append(phase)
            status.update(f"{phase.name}: {phase.ending}")
    records.close()
    in_order = all(phase.ending in {Ending.OK, Ending.LEFT_OUT} for phase in phases)
    if as_json:
        uid = test.study_instance_uid
        said = {"in_order": in_order, "study_instance_uid": uid, "phases": [asdict(one) for one in phases]}
        typer.echo(json.dumps(said, indent=2))
    else:
        _print(phases, test.study_instance_uid, in_order)
    raise typer.Exit(0 if in_order else 1)


def _address(text: str) -> str:
    try:
        return Destination.parse(text).address
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--destination") from None


def _node(settings: Settings, port_given: int | None) -> Destination:
    """Where the node listens: what is said, what an `up` on the data folder has written down, the setting."""
    port = port_given or running_port(settings.data_dir) or settings.dicom_port
    if port is not None:
        return ourselves(settings, port)
    tls_port = running_port(settings.data_dir, "dicom_tls_port") or settings.dicom_tls_port
    return ourselves(settings, tls_port or 0, tls=True)


def _print(phases: list[Phase], uid: str, in_order: bool) -> None:
    console = Console(highlight=False)
    if uid:
        console.print(f"test study {uid}", soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    for heading in ("phase", "", "seconds", "detail"):
        table.add_column(heading, overflow="fold")
    for phase in phases:
        seconds = "" if phase.seconds is None else f"{phase.seconds:.2f}"
        ending = Text(phase.ending, style=_COLOURS[phase.ending])
        table.add_row(Text(phase.name), ending, seconds, Text(phase.detail))
    console.print(table)
    if in_order:
        console.print("in order", style="green")
    else:
        stays = f"; the test study stays for a look: litegpt-node show {uid}" if uid else ""
        console.print(Text(f"not in order{stays}", style="red"), soft_wrap=True)
