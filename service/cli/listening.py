"""The command ``listen``: the listener, alone in its process."""

from __future__ import annotations

import threading
from typing import Annotated

import typer

from service.cli.options import Config, settings_of_process
from service.cli.part import require_records, stop_on_signals
from service.listeners import SHARED_PORT, Listeners
from service.metrics import own_port
from service.wire.listener import Listener, configure_process


def register(app: typer.Typer) -> None:
    """Adds this command."""
    app.command()(listen)


def listen(
    config: Config = None,
    shared_port: Annotated[
        bool, typer.Option(SHARED_PORT, hidden=True, help="One of several processes on its ports.")
    ] = False,
) -> None:
    """Run the listener alone. Several may share one archive and database.

    On one machine `listener_processes` of them share its port.
    """
    settings = settings_of_process(config)
    own_port.count_alone(settings)
    configure_process(settings)
    require_records(settings)
    stop = threading.Event()
    stop_on_signals(stop)
    if settings.listener_processes > 1 and not shared_port:
        listeners = Listeners.start(settings)
        own_port.tell(settings)
        listeners.run(stop)
        return
    listener = Listener(settings, shares_port=shared_port)
    listener.start()
    own_port.tell(settings)
    try:
        stop.wait()
    finally:
        listener.stop()
