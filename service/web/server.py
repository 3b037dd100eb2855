"""The process that serves HTTP: the pages on one port, metrics and health on one of their own where asked.

Without a patient's name in any log: requests are not logged at all.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import uvicorn
from fastapi import FastAPI

from service.errors import SettingsError
from service.settings import Settings
from service.web.app import create_app, create_metrics_app

log = logging.getLogger(__name__)

_AT_ONCE: Final = 64
"""Connections to a port; more are answered 503."""

_IDLE_SECONDS: Final = 5
_GRACE_SECONDS: Final = 2
_BIND_AGAIN_SECONDS: Final = 5.0
_BACKLOG: Final = 128


class _Server(uvicorn.Server):
    """A server among others in one process, which leaves the signals to whoever runs them all."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Captures none."""
        yield


def serve(settings: Settings, *, wait_for_port: bool = False) -> None:
    """Serves until SIGTERM or Ctrl-C.

    Args:
        settings: Which ports, and of which node.
        wait_for_port: Wait for a port that is taken, with one line in the log, instead of giving up.

    Raises:
        SettingsError: If there is no port to serve, or it cannot be bound.
    """
    if settings.web_port is None and settings.metrics_port is None:
        raise SettingsError("there is nothing to serve: web_port and metrics_port are not set")
    asyncio.run(_serve(settings, wait_for_port))
    # A route's thread that still waits, as for a database that hangs, must not hold the end up.
    logging.shutdown()
    os._exit(0)


async def _serve(settings: Settings, wait_for_port: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    ports: dict[str, int] = {}

    async def pages() -> None:
        if settings.web_port is not None:
            bound = await _bind(settings.web_host, settings.web_port, stop, wait_for_port)
            await _run(create_app(settings), bound, "pages", ports, settings, stop)

    async def metrics() -> None:
        if settings.metrics_port is not None:
            bound = await _bind(settings.metrics_host, settings.metrics_port, stop, wait_for_port)
            await _run(create_metrics_app(settings), bound, "metrics", ports, settings, stop)

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(pages())
            group.create_task(metrics())
    except* SettingsError as errors:
        raise errors.exceptions[0] from None
    finally:
        ports_file(settings.data_dir).unlink(missing_ok=True)


async def _run(
    app: FastAPI,
    bound: socket.socket | None,
    name: str,
    ports: dict[str, int],
    settings: Settings,
    stop: asyncio.Event,
) -> None:
    """Serves an application on a bound socket until ``stop`` is set."""
    if bound is None:
        return
    server = _Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            limit_concurrency=_AT_ONCE,
            timeout_keep_alive=_IDLE_SECONDS,
            timeout_graceful_shutdown=_GRACE_SECONDS,
            ws="none",
            http="h11",
            loop="asyncio",
        )
    )
    host, port = bound.getsockname()[:2]
    ports[name] = port
    _write_ports(settings.data_dir, ports)
    log.info("%s at %s", name, address(host, port))
    serving = asyncio.create_task(server.serve(sockets=[bound]))
    stopping = asyncio.create_task(stop.wait())
    await _first(serving, stopping)
    server.should_exit = True
    stopping.cancel()
    await serving


async def _first(*awaited: Awaitable[object]) -> None:
    await asyncio.wait([asyncio.ensure_future(one) for one in awaited], return_when=asyncio.FIRST_COMPLETED)


async def _bind(host: str, port: int, stop: asyncio.Event, wait: bool) -> socket.socket | None:
    """A listening socket; ``None`` where ``stop`` was set before there was one."""
    said = False
    while True:
        try:
            return bind(host, port)
        except SettingsError as error:
            if not wait:
                raise
            if not said:
                log.error("%s; waiting for it, the rest of the node goes on", error)
            said = True
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), _BIND_AGAIN_SECONDS)
            return None


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        SettingsError: If the port cannot be bound.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise SettingsError(f"port {port} on {host}: {error.strerror}") from None


def address(host: str, port: int) -> str:
    """The URL of a port on a host, or on this machine where the host is every one."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def ports_file(data_dir: Path) -> Path:
    """Where the process of this machine says which ports it has; the folder may be shared by several."""
    return data_dir / f"web.{socket.gethostname()}.json"


def _write_ports(data_dir: Path, ports: dict[str, int]) -> None:
    try:
        ports_file(data_dir).write_text(json.dumps({"pid": os.getpid(), **ports}), encoding="ascii")
    except OSError as error:
        # A full disk is for `/health/ready` to tell.
        log.warning("the ports cannot be written down: %s", error.strerror)


def running_ports(data_dir: Path) -> dict[str, int]:
    """The ports of this machine's process by ``pages`` and ``metrics``; empty where none runs."""
    try:
        state: dict[str, int] = json.loads(ports_file(data_dir).read_text(encoding="ascii"))
        os.kill(state.pop("pid"), 0)
        return state
    except (OSError, ValueError, KeyError):
        return {}
