"""The command ``sweep``: the sweeper, alone in its process."""

from __future__ import annotations

import threading

import typer

from service import queue
from service.cli.options import Config, settings_of_process
from service.cli.part import require_records, stop_on_signals
from service.sweeper import Sweeper
from service.wire.listener import configure_process


def register(app: typer.Typer) -> None:
    """Adds this command."""
    app.command()(sweep)


def sweep(config: Config = None) -> None:
    """Run the sweeper alone: it completes studies and wakes the workers."""
    settings = settings_of_process(config)
    require_records(settings)
    configure_process(settings)
    queue.prepare_broker(settings)
    stop = threading.Event()
    stop_on_signals(stop)
    Sweeper(settings).run(stop)
