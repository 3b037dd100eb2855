"""The command ``up``: a whole node, its parts as processes below this one."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable

import typer
from rich.console import Console
from rich.text import Text

from litegpt.errors import ModelError
from service.checks import roster
from service.cli.options import (
    AETitle,
    Config,
    DataDir,
    Destinations,
    DicomPort,
    QuietSeconds,
    settings_of_process,
)
from service.cli.part import stop_on_signals
from service.logs import LogFormat
from service.peers import Destination
from service.rules.rulebook import Rules
from service.settings import Settings
from service.supervisor import Supervisor
from service.web.ports import PAGES, ports_of
from service.wire.listener import configure_process

log = logging.getLogger(__name__)


def register(app: typer.Typer) -> None:
    """Adds this command."""
    app.command()(up)


def up(
    config: Config = None,
    data_dir: DataDir = None,
    dicom_port: DicomPort = None,
    ae_title: AETitle = None,
    destination: Destinations = None,
    quiet_seconds: QuietSeconds = None,
) -> None:
    """Run a whole node until Ctrl-C: listener, sweeper, retriever and workers.

    Without any settings it keeps everything under ./node-data and reads with the demonstration model.

    Example: litegpt-node up --destination PACS@192.168.1.20:104 --quiet-seconds 30
    """
    settings = settings_of_process(
        config,
        data_dir=data_dir,
        dicom_port=dicom_port,
        ae_title=ae_title,
        destinations=destination,
        quiet_seconds=quiet_seconds,
    )
    configure_process(settings)
    supervisor = Supervisor(settings)
    stop_on_signals(supervisor.stop)
    _say_what_runs(settings)
    supervisor.run()


def _pages(settings: Settings) -> str:
    """The address of the pages; empty where there are none, or the log says it (a free port)."""
    return next((port.url for port in ports_of(settings) if port.name == PAGES and port.number), "")


def _reads_for_demonstration(settings: Settings) -> bool:
    """Whether the active model is only a demonstration; `check` tells of one that cannot be read."""
    try:
        return roster(settings).active.identity.demonstration
    except ModelError:
        return False


def _named(destinations: Iterable[Destination]) -> str:
    return ", ".join(map(str, destinations))


def _say_what_runs(settings: Settings) -> None:
    rules = Rules.read(settings)
    destinations, of_images = rules.destinations, rules.image_destinations
    runs = Text.assemble(
        "LiteGPT node ",
        (settings.ae_title, "bold"),
        f" on {settings.dicom_ports}, data in {settings.data_dir}, ",
        f"pages at {pages}, " if (pages := _pages(settings)) else "",
        f"results to {_named(destinations) or 'nobody (set --destination)'}",
        f", images to {_named(of_images)}" if of_images else "",
        "; Ctrl-C stops it, a second one at once.",
    )
    warning = Text(
        "The model is a demonstration trained on synthetic images: what it says about a patient "
        "means nothing.",
        style="yellow",
    )
    lines = [runs, *([warning] if _reads_for_demonstration(settings) else [])]
    console = Console(file=sys.stderr, highlight=False, soft_wrap=True)
    for line in lines:
        if settings.log_format is LogFormat.JSON:
            log.info("%s", line.plain)
        else:
            console.print(line)
