"""The ports of the web server: binding them, and where it says which it has."""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from service.errors import SettingsError
from service.settings import Settings

log = logging.getLogger(__name__)

PAGES: Final = "pages"
METRICS: Final = "metrics"

_BACKLOG: Final = 128


@dataclass(frozen=True, slots=True)
class Port:
    """One of them.

    Attributes:
        name: ``pages`` or ``metrics``.
        host, number: Where it is; 0 before the system has chosen one.
        tls: Whether it speaks HTTPS.
    """

    name: str
    host: str
    number: int
    tls: bool = False

    @property
    def url(self) -> str:
        """Its address, as seen from this machine where the host stands for every one."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        scheme = "https" if self.tls else "http"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.number}/"


def ports_of(settings: Settings) -> Iterator[Port]:
    """Those that are asked for."""
    if settings.web_port is not None:
        tls = settings.web_tls_certificate is not None
        yield Port(PAGES, settings.web_host, settings.web_port, tls)
    if settings.metrics_port is not None:
        yield Port(METRICS, settings.metrics_host, settings.metrics_port)


def bind(port: Port) -> socket.socket:
    """A socket that listens there.

    Raises:
        SettingsError: If the port cannot be bound.
    """
    family = socket.AF_INET6 if ":" in port.host else socket.AF_INET
    try:
        listening = socket.create_server((port.host, port.number), family=family, backlog=_BACKLOG)
    except OSError as error:
        # Not `strerror`, to which `create_server` adds the address.
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        raise SettingsError(f"port {port.number} on {port.host}, for the {port.name}: {reason}") from None
    # asyncio does so only for sockets that name their protocol, which these do not: without it an answer on a
    # connection that is kept waits 40 ms for the peer's acknowledgement of its head.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def write_ports(data_dir: Path, ports: Mapping[str, int]) -> None:
    """Says which ports this process has."""
    try:
        ports_file(data_dir).write_text(json.dumps({"pid": os.getpid(), **ports}), encoding="ascii")
    except OSError as error:
        # A full disk is for `/health/ready` to tell.
        log.warning("the ports cannot be written down: %s", error.strerror)


def ports_file(data_dir: Path) -> Path:
    """Where this machine's process says which ports it has; the folder may be shared by several machines."""
    return data_dir / f"web.{socket.gethostname()}.json"


def running_ports(data_dir: Path) -> dict[str, int]:
    """The ports of this machine's process by name; empty where none runs."""
    try:
        state: dict[str, int] = json.loads(ports_file(data_dir).read_text(encoding="ascii"))
        os.kill(state.pop("pid"), 0)
        return state
    except (OSError, ValueError, KeyError):
        return {}
