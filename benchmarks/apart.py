"""A node whose parts are processes of their own, as in docker-compose.yml: on PostgreSQL and Redis."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from service import queue
from service.settings import Settings, settings_without_sources
from service.supervisor import worker_command
from tests.node import BIN, node_up
from tests.ports import free_port, listens
from tests.processes import running
from tests.services.postgres import postgres_schema, started_server
from tests.services.redis import redis_database, redis_server

_READY_SECONDS: Final = 120
_AS_SHIPPED: Final = {"sweep_interval_seconds": "1"}
"""In the place of what a test wants, not to wait for it."""


@dataclass(frozen=True, slots=True)
class RunningNode:
    """A node that is up.

    Attributes:
        settings: By which its records are read.
        port: Of its listener.
    """

    settings: Settings
    port: int


@contextmanager
def node_apart(folder: Path, **settings: str) -> Iterator[RunningNode]:
    """Listener, sweeper and the two workers as processes, on a PostgreSQL and a Redis of their own."""
    folder.mkdir(parents=True)
    with ExitStack() as stack:
        server = stack.enter_context(started_server())
        database = stack.enter_context(postgres_schema(server))
        broker = stack.enter_context(redis_database(stack.enter_context(redis_server())))
        port = free_port()
        chosen = {
            "data_dir": str(folder / "data"),
            "database_url": database,
            "broker_url": broker,
            "dicom_port": str(port),
            **settings,
        }
        environment = {f"LITEGPT_{name.upper()}": value for name, value in chosen.items()}
        migrate: list[str | Path] = [BIN / "litegpt-node", "migrate"]
        subprocess.run(migrate, env=os.environ | environment, cwd=folder, check=True, capture_output=True)
        commands: dict[str, Sequence[str | Path]] = {
            "listen": [BIN / "litegpt-node", "listen"],
            "sweep": [BIN / "litegpt-node", "sweep"],
            **{name: worker_command(name, "prefork", "INFO") for name in (queue.ANALYSIS, queue.DELIVERY)},
        }
        processes = {
            name: stack.enter_context(
                running(command, log=folder / f"{name}.log", environment=environment, folder=folder)
            )
            for name, command in commands.items()
        }
        processes["listen"].wait_until(lambda: listens(port), _READY_SECONDS, "listener")
        yield RunningNode(settings_without_sources(**chosen), port)


@contextmanager
def node_embedded(folder: Path, **settings: str) -> Iterator[RunningNode]:
    """``litegpt-node up``: one command, on SQLite and the broker of files."""
    with node_up(folder, ready_seconds=_READY_SECONDS, **_AS_SHIPPED, **settings) as node:
        yield RunningNode(settings_without_sources(**settings, data_dir=node.data_dir), node.port)
