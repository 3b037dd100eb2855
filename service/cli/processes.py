"""Commands that run the node, or a part of it, until told to stop; and ``health``, which asks for a part."""

from __future__ import annotations

import logging
import signal
import ssl
import sys
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from enum import StrEnum
from http.client import HTTPException
from typing import Annotated, Final
from urllib.request import urlopen

import typer
from rich.console import Console
from rich.text import Text

from litegpt.errors import ModelError
from service import heartbeat, queue
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
from service.errors import NodeError, NoTls, PeerRefused
from service.logs import LogFormat
from service.metrics import own_port
from service.peers import Destination
from service.records.database import Records
from service.retrieval.retriever import Retriever
from service.rules.rulebook import Rules
from service.settings import Settings
from service.supervisor import Supervisor
from service.sweeper import Sweeper
from service.web.ports import PAGES, ports_of, running_ports
from service.wire.listener import Listener, configure_process, ourselves
from service.wire.sender import Sender

log = logging.getLogger(__name__)

_HEALTH_SECONDS: Final = 5.0


def register(app: typer.Typer) -> None:
    """Adds these commands."""
    for command in (up, listen, sweep, retriever, web, health):
        app.command()(command)


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
    _stop_on_signals(supervisor.stop)
    _say_what_runs(settings)
    supervisor.run()


def listen(config: Config = None) -> None:
    """Run the listener alone. Several may share one archive and database."""
    settings = settings_of_process(config)
    own_port.count_alone(settings)
    configure_process(settings)
    _require_records(settings)
    stop = threading.Event()
    _stop_on_signals(stop)
    listener = Listener(settings)
    listener.start()
    own_port.tell(settings)
    try:
        stop.wait()
    finally:
        listener.stop()


def sweep(config: Config = None) -> None:
    """Run the sweeper alone: it completes studies and wakes the workers."""
    settings = settings_of_process(config)
    _require_records(settings)
    configure_process(settings)
    queue.prepare_broker(settings)
    stop = threading.Event()
    _stop_on_signals(stop)
    Sweeper(settings).run(stop)


def retriever(config: Config = None) -> None:
    """Run the retriever alone: it works off what `retrieve` asks for."""
    settings = settings_of_process(config)
    own_port.count_alone(settings)
    _require_records(settings)
    configure_process(settings)
    stop = threading.Event()
    _stop_on_signals(stop)
    part = Retriever(settings)
    own_port.tell(settings)
    part.run(stop)


def web(
    config: Config = None,
    data_dir: DataDir = None,
    wait_for_port: Annotated[
        bool, typer.Option("--wait-for-port", help="Wait where a port is taken, instead of ending.")
    ] = False,
) -> None:
    """Run the web server alone: pages for this machine, and metrics and health for others where set.

    Example: litegpt-node web --data-dir node-data
    """
    settings = settings_of_process(config, data_dir=data_dir)
    # Imported here: no other command needs it.
    from service.web.server import serve

    serve(settings, wait_for_port=wait_for_port)


class Part(StrEnum):
    """A part whose health can be asked."""

    LISTENER = "listener"
    SWEEPER = "sweeper"
    RETRIEVER = "retriever"
    WEB = "web"


def health(
    part: Annotated[Part, typer.Argument(help="Which part of the node on this machine.")],
    config: Config = None,
) -> None:
    """Ask whether a part runs on this machine: exit code 0 or 1. For health checks."""
    settings = settings_of_process(config)
    if part in (Part.SWEEPER, Part.RETRIEVER) and not heartbeat.is_beating(settings.data_dir, part):
        raise NodeError(f"no {part} has been round lately")
    if part is Part.LISTENER:
        tls = settings.dicom_port is None
        ours = ourselves(settings, (settings.dicom_tls_port if tls else settings.dicom_port) or 0, tls=tls)
        # A listener that lets only listed callers, users or certificates in refuses us, and is well.
        with suppress(PeerRefused, NoTls):
            Sender(settings, to_ourselves=True).echo(ours)
    if part is Part.WEB:
        _require_web(settings)


def _require_web(settings: Settings) -> None:
    running = running_ports(settings.data_dir)
    asked = [replace(port, number=running.get(port.name, port.number)) for port in ports_of(settings)]
    if not asked:
        raise NodeError("neither web_port nor metrics_port is set")
    for port in asked:
        try:
            # Whether it lives, not who it is: its certificate may be for another name than this machine's.
            context = ssl._create_unverified_context() if port.tls else None
            with urlopen(f"{port.url}health/live", timeout=_HEALTH_SECONDS, context=context) as answer:
                answer.read(100)
        except (OSError, HTTPException) as error:
            raise NodeError(f"{port.url} does not answer: {error}") from None


def _require_records(settings: Settings) -> None:
    records = Records.open(settings)
    records.require_schema()
    records.close()


def _stop_on_signals(stop: threading.Event) -> None:
    def ask(*_: object) -> None:
        stop.set()
        # Whoever presses Ctrl-C again does not want to wait. Workers are tied to us and end too.
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, ask)


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
