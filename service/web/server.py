"""The process that serves HTTP: the pages on one port, metrics and health on one of their own where asked.

Requests are not logged: what a person searches for may name a patient.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Final, NoReturn

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from service.errors import SettingsError
from service.settings import Settings
from service.web import ports
from service.web.admission import require_certificate, require_users
from service.web.app import create_app, create_metrics_app
from service.web.ports import Port

log = logging.getLogger(__name__)

_AT_ONCE: Final = 64
"""Connections to a port; more are answered 503."""

_IDLE_SECONDS: Final = 5
_HEAD_SECONDS: Final = 5.0
"""From a connection to the end of its first request's head; uvicorn would wait for ever."""

_GRACE_SECONDS: Final = 2
_BIND_AGAIN_SECONDS: Final = 2.0

_APPLICATIONS: Final[dict[str, Callable[[Settings], FastAPI]]] = {
    ports.PAGES: create_app,
    ports.METRICS: create_metrics_app,
}


def serve(settings: Settings, *, wait_for_port: bool = False) -> NoReturn:
    """Serves until SIGTERM or Ctrl-C, and ends the process.

    Args:
        settings: Which ports, and of which node.
        wait_for_port: Wait for a port that is taken, with one line in the log, instead of giving up.

    Raises:
        SettingsError: If there is no port to serve, or it cannot be bound; if others reach the pages and
            there are no users, or the certificate cannot be used.
    """
    if not any(ports.ports_of(settings)):
        raise SettingsError("there is nothing to serve: neither web_port nor metrics_port is set")
    require_users(settings)
    require_certificate(settings)
    asyncio.run(_Service(settings, wait_for_port).run())
    # A route's thread that still waits, as for a database that hangs, must not hold the end up.
    logging.shutdown()
    os._exit(0)


class _Server(uvicorn.Server):
    """A server among others in one process, which leaves the signals to whoever runs them all."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Captures none."""
        yield


class _PunctualProtocol(H11Protocol):
    """HTTP with whoever asks in time: silent connections would take up all that there may be."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Gives the peer a moment to ask for something."""
        super().connection_made(transport)
        self.loop.call_later(_HEAD_SECONDS, self._close_if_silent)

    def _close_if_silent(self) -> None:
        request: object = self.cycle  # `None` until there is one, whatever its type says
        if request is None:
            self.transport.close()


class _Service:
    """All of the ports, from start to stop."""

    def __init__(self, settings: Settings, wait_for_port: bool) -> None:
        self._settings = settings
        self._wait_for_port = wait_for_port
        self._stop = asyncio.Event()
        self._bound: dict[str, int] = {}

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop.set)
        try:
            async with asyncio.TaskGroup() as group:
                for port in ports.ports_of(self._settings):
                    group.create_task(self._serve(port))
        except* SettingsError as errors:
            raise errors.exceptions[0] from None
        finally:
            ports.ports_file(self._settings.data_dir).unlink(missing_ok=True)

    async def _serve(self, port: Port) -> None:
        bound = await self._bind(port)
        if bound is None:
            return
        self._say(replace(port, number=bound.getsockname()[1]))
        server = _Server(_config(_APPLICATIONS[port.name](self._settings), self._settings, port))
        serving = asyncio.create_task(server.serve(sockets=[bound]))
        stopping = asyncio.create_task(self._stop.wait())
        await asyncio.wait([serving, stopping], return_when=asyncio.FIRST_COMPLETED)
        server.should_exit = True
        stopping.cancel()
        await serving

    async def _bind(self, port: Port) -> socket.socket | None:
        """A listening socket; ``None`` where the end came before there was one."""
        said = False
        while not self._stop.is_set():
            try:
                return ports.bind(port)
            except SettingsError as error:
                if not self._wait_for_port:
                    raise
                if not said:
                    log.error("%s; waiting for it, all else goes on", error)
                said = True
            stopping = asyncio.create_task(self._stop.wait())
            await asyncio.wait([stopping], timeout=_BIND_AGAIN_SECONDS)
            stopping.cancel()
        return None

    def _say(self, port: Port) -> None:
        self._bound[port.name] = port.number
        ports.write_ports(self._settings.data_dir, self._bound)
        log.info("%s at %s", port.name, port.url)


def _config(app: FastAPI, settings: Settings, port: Port) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        ssl_certfile=settings.web_tls_certificate if port.tls else None,
        ssl_keyfile=settings.web_tls_key if port.tls else None,
        # Whose address a request has is for the pages to say: what a browser writes there is no evidence.
        proxy_headers=False,
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=_AT_ONCE,
        timeout_keep_alive=_IDLE_SECONDS,
        timeout_graceful_shutdown=_GRACE_SECONDS,
        ws="none",
        http=_PunctualProtocol,
        loop="asyncio",
    )
