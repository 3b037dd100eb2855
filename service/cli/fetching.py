"""The command ``retriever``: the retriever, alone in its process."""

from __future__ import annotations

import threading

import typer

from service.cli.options import Config, settings_of_process
from service.cli.part import require_records, stop_on_signals
from service.metrics import own_port
from service.retrieval.retriever import Retriever
from service.wire.listener import configure_process


def register(app: typer.Typer) -> None:
    """Adds this command."""
    app.command()(retriever)


def retriever(config: Config = None) -> None:
    """Run the retriever alone: it works off what `retrieve` asks for."""
    settings = settings_of_process(config)
    own_port.count_alone(settings)
    require_records(settings)
    configure_process(settings)
    stop = threading.Event()
    stop_on_signals(stop)
    part = Retriever(settings)
    own_port.tell(settings)
    part.run(stop)
