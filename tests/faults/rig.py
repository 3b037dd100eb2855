"""A node in parts, as a hospital runs it, around servers of its own: whatever is killed is started again."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import redis
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from service.settings import PREFIX
from service.supervisor import worker_command
from tests.faults.armed import kill_tree
from tests.faults.steps import ANALYSIS, DELIVERY, LISTENER, SWEEPER
from tests.node import BIN, QUICK
from tests.peers.dcmtk import ENVIRONMENT, Received, store_requests, storescp_command
from tests.ports import free_port, listens
from tests.presence import program
from tests.processes import Process, running
from tests.services.postgres import PrivateServer, private_server

DATABASE: Final = "database"
BROKER: Final = "broker"
PACS: Final = "PACS"
RETRIEVER: Final = "retriever"
WEB: Final = "web"

WORKING: Final = (LISTENER, SWEEPER, ANALYSIS, DELIVERY)
"""The parts without which no study comes through."""

LONGEST_PAUSE_SECONDS: Final = 1.0
"""What was killed stays away for up to this."""

HURRIED: Final = {
    **QUICK,
    "quiet_seconds": "0.5",
    "analysis_lease_seconds": "3",
    "dimse_timeout_seconds": "2",
    "delivery_lease_seconds": "3",
    "retry_maximum_seconds": "2",
    "maximum_attempts": "20",
}
"""Settings under which what was killed is soon somebody else's."""

_START_SECONDS: Final = 120.0


@dataclass
class Part:
    """A process that may be killed.

    Attributes:
        command, environment, folder, user, stop_signal: As ``tests.processes.running`` takes them.
        is_ready: Whether it answers.
    """

    name: str
    command: Sequence[str | Path]
    folder: Path
    logs: Path
    environment: Mapping[str, str]
    is_ready: Callable[[], bool]
    user: int | None = None
    stop_signal: int = signal.SIGTERM

    def __post_init__(self) -> None:
        self._starts = 0
        self._back_at: float | None = None
        self.process: Process | None = None
        self._stack = ExitStack()

    @property
    def starts(self) -> int:
        """How often it was started."""
        return self._starts

    def start(self) -> None:
        """Starts it; with a log of its own each time."""
        self._stack.close()
        self._starts += 1
        self.process = self._stack.enter_context(
            running(
                self.command,
                log=self.logs / f"{self.name}-{self._starts:03d}.log",
                environment=self.environment,
                folder=self.folder,
                user=self.user,
                stop_signal=self.stop_signal,
                stop_timeout_seconds=40,
            )
        )

    def start_and_wait(self) -> None:
        """Starts it, and waits until it answers."""
        self.start()
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Waits until it answers."""
        assert self.process is not None
        self.process.wait_until(self.is_ready, _START_SECONDS, f"{self.name} ready")

    def tend(self, pause_seconds: float) -> None:
        """Starts it again where it has ended, so long after that was seen."""
        if self.process is not None and self.process.popen.poll() is None:
            return
        if self._back_at is None:
            self._back_at = time.monotonic() + pause_seconds
        elif time.monotonic() >= self._back_at:
            self._back_at = None
            self.start()

    def kill(self) -> None:
        """SIGKILL to it and to whatever it started."""
        if self.process is not None:
            kill_tree(self.process.pid)
            self.process.popen.wait()

    def stop(self) -> None:
        """Ends it as an admin would."""
        self._stack.close()


class Rig:
    """The node with its database, broker and PACS.

    Attributes:
        folder: Everything that it wrote.
        data_dir: The node's data folder.
        port: Where the listener is.
        database: SQLAlchemy URL.
        pacs: What the PACS got.
    """

    def __init__(
        self,
        folder: Path,
        server: PrivateServer,
        luck: random.Random,
        *,
        with_parts: Sequence[str] = WORKING,
        armed: bool = True,
        settings: Mapping[str, str] | None = None,
        own_environment: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
    ) -> None:
        """Args:
        folder: Where everything is to be.
        server: Its database.
        luck: By which it is drawn how long what was killed stays away.
        with_parts: The node's parts that run.
        armed: Whether parts can be killed at steps.
        settings: On top of its own, by name.
        own_environment: More variables of a part.
        """
        self.folder, self._luck, self._armed, self._more = folder, luck, armed, settings or {}
        self._own_environment = own_environment
        self.data_dir = folder / "data"
        self.port = free_port()
        self.database = server.url.render_as_string(hide_password=False)
        self.pacs = Received(folder / "pacs")
        self._pacs_port, broker_port = free_port(), free_port()
        self._broker_url = f"redis://127.0.0.1:{broker_port}/0"
        for name in ("armed", "fired", "logs", "broker", "pacs"):
            (folder / name).mkdir(parents=True)
        self.parts = {part.name: part for part in self._parts(server, broker_port, with_parts)}

    def _parts(self, server: PrivateServer, broker_port: int, with_parts: Sequence[str]) -> Iterator[Part]:
        logs = self.folder / "logs"
        yield Part(
            DATABASE, server.command, server.folder, logs, {}, server.answers, server.user, signal.SIGINT
        )
        # Keeps nothing on the disk: with it all bells are lost.
        options = ("--port", str(broker_port), "--bind", "127.0.0.1", "--save", "", "--dir", ".")
        redis_server = [program("redis-server", package="redis-server"), *options]
        yield Part(BROKER, redis_server, self.folder / "broker", logs, {}, self._broker_answers)
        pacs = storescp_command(self.pacs.folder, self._pacs_port, PACS)
        yield Part(PACS, pacs, self.folder, logs, ENVIRONMENT, lambda: listens(self._pacs_port))
        commands = self._commands()
        for name in with_parts:
            ready = self._listens if name == LISTENER else _at_once
            environment = {**self.environment, **self._own_environment.get(name, {})}
            yield Part(name, self._with_traps(name, commands[name]), self.folder, logs, environment, ready)

    def _with_traps(self, name: str, command: list[str]) -> list[str | Path]:
        if self._armed:
            return [sys.executable, "-m", "tests.faults.armed", self.folder, name, *command]
        program_name, *arguments = command
        return [BIN / program_name, *arguments]

    def _commands(self) -> dict[str, list[str]]:
        # A worker's is without Python and its -m: it may run in a process with traps.
        return {
            LISTENER: ["litegpt-node", "listen"],
            SWEEPER: ["litegpt-node", "sweep"],
            ANALYSIS: worker_command("analysis", "prefork", "INFO")[2:],
            DELIVERY: worker_command("delivery", "prefork", "INFO")[2:],
            RETRIEVER: ["litegpt-node", "retriever"],
            WEB: ["litegpt-node", "web"],
        }

    @property
    def environment(self) -> dict[str, str]:
        """The node's settings, as variables."""
        settings = {
            **HURRIED,
            "data_dir": str(self.data_dir),
            "database_url": self.database,
            "broker_url": self._broker_url,
            "dicom_host": "127.0.0.1",
            "dicom_port": str(self.port),
            "destinations": f"{PACS}@127.0.0.1:{self._pacs_port}",
            **self._more,
        }
        return environment_of(settings)

    def run_command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs ``litegpt-node`` with the node's settings to its end."""
        return subprocess.run(
            [BIN / "litegpt-node", *arguments],
            env={**os.environ, **self.environment},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def store_requests(self) -> int:
        """How many C-STOREs came to the PACS, in all its lives."""
        logs = (self.folder / "logs").glob(f"{PACS}-*.log")
        return sum(store_requests(log.read_text(errors="replace")) for log in logs)

    def ask(self, query: str) -> Any:
        """The one value that a query has for an answer."""
        engine = create_engine(self.database, poolclass=NullPool, connect_args={"connect_timeout": 2})
        with engine.connect() as connection:
            return connection.execute(text(query)).scalar_one()

    def start(self) -> None:
        """Starts everything, on an empty database."""
        servers, own = list(self.parts.values())[:3], list(self.parts.values())[3:]
        for part in servers:
            part.start_and_wait()
        migrated = self.run_command("migrate")
        assert migrated.returncode == 0, migrated.stderr
        for part in own:
            part.start_and_wait()

    def tend(self, pauses: Mapping[str, float] | None = None) -> None:
        """Starts again what was killed, each after a pause of its own.

        Args:
            pauses: Seconds, by the part's name, where they are not to be drawn.
        """
        for name, part in self.parts.items():
            drawn = self._luck.uniform(0, LONGEST_PAUSE_SECONDS)
            part.tend((pauses or {}).get(name, drawn))

    def stop(self) -> None:
        """Ends everything as an admin would, the servers last; what does not end is killed."""
        stop_all(self.parts.values())

    def kill(self) -> None:
        """Ends everything at once."""
        kill_all(self.parts.values())

    def _listens(self) -> bool:
        return listens(self.port)

    def _broker_answers(self) -> bool:
        try:
            with redis.Redis.from_url(self._broker_url, socket_connect_timeout=2) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False


def environment_of(settings: Mapping[str, str]) -> dict[str, str]:
    """The variables by which a part of the node gets these settings, and finds this code."""
    root = Path(__file__).resolve().parents[2]
    return {
        **{PREFIX + name.upper(): value for name, value in settings.items()},
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH", "")])),
    }


def stop_all(parts: Iterable[Part]) -> None:
    """Ends parts as an admin would, the last first, and all of them whatever one does.

    Raises:
        TimeoutError: If one had to be killed.
    """
    with ExitStack() as stack:
        for part in parts:
            stack.callback(part.stop)


def kill_all(parts: Iterable[Part]) -> None:
    """SIGKILL to all of them, and to whatever they started."""
    for part in parts:
        part.kill()


def _at_once() -> bool:
    return True


@contextmanager
def rig_up(
    folder: Path,
    luck: random.Random,
    *,
    with_parts: Sequence[str] = WORKING,
    armed: bool = True,
    settings: Mapping[str, str] | None = None,
    own_environment: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
) -> Iterator[Rig]:
    """A rig that is up until the block ends; as :class:`Rig` takes them."""
    with private_server() as server:
        rig = Rig(
            folder / "node",
            server,
            luck,
            with_parts=with_parts,
            armed=armed,
            settings=settings,
            own_environment=own_environment,
        )
        try:
            rig.start()
            yield rig
        except BaseException:
            rig.kill()
            raise
        finally:
            rig.stop()
