"""The command ``health``: whether a part runs on this machine, for health checks."""

from __future__ import annotations

import ssl
from contextlib import suppress
from dataclasses import replace
from enum import StrEnum
from http.client import HTTPException
from typing import Annotated, Final
from urllib.request import urlopen

import typer

from service import heartbeat
from service.cli.options import Config, settings_of_process
from service.errors import NodeError, NoTls, PeerRefused
from service.settings import Settings
from service.web.ports import ports_of, running_ports
from service.wire.listener import ourselves
from service.wire.sender import Sender

_HEALTH_SECONDS: Final = 5.0


def register(app: typer.Typer) -> None:
    """Adds this command."""
    app.command()(health)


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
