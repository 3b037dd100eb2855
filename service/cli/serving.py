"""The command ``web``: the web server, alone in its process."""

from __future__ import annotations

from typing import Annotated

import typer

from service.cli.options import Config, DataDir, settings_of_process
from service.web.server import serve


def register(app: typer.Typer) -> None:
    """Adds this command."""
    app.command()(web)


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
    serve(settings, wait_for_port=wait_for_port)
