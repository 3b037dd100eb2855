"""A node in parts, as a hospital runs it, around servers of its own: whatever is killed is started again."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import redis

from service.settings import PREFIX
from tests.faults.steps import ANALYSIS, DELIVERY, LISTENER, SWEEPER
from tests.node import BIN, QUICK
from tests.peers.dcmtk import Storescp, storescp
from tests.ports import free_port, listens
from tests.presence import program
from tests.processes import Process, running
from tests.services.postgres import PrivateServer, private_server

DATABASE: Final = "database"
BROKER: Final = "broker"

LONGEST_PAUSE_SECONDS: Final = 1.0
"""What was killed stays away for up to this."""

_START_SECONDS: Final = 60.0


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
        assert self.process is not None
        self.process.wait_until(self.is_ready, _START_SECONDS, f"{self.name} ready")

    def tend(self, pause_seconds: Callable[[], float]) -> None:
        """Starts it again where it has ended, after a pause."""
        if self.process is not None and self.process.popen.poll() is None:
            return
        if self._back_at is None:
            self._back_at = time.monotonic() + pause_seconds()
        elif time.monotonic() >= self._back_at:
            self._back_at = None
            self.start()

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
    """

    def __init__(self, folder: Path, server: PrivateServer, pacs: Storescp, luck: random.Random) -> None:
        self.folder, self.pacs, self._luck = folder, pacs, luck
        self.data_dir = folder / "data"
        self.port = free_port()
        self.database = server.url.render_as_string(hide_password=False)
        broker_port = free_port()
        self._broker_url = f"redis://127.0.0.1:{broker_port}/0"
        for name in ("armed", "fired", "logs", "broker"):
            (folder / name).mkdir(parents=True)
        self.parts = {part.name: part for part in self._parts(server, broker_port)}

    def _parts(self, server: PrivateServer, broker_port: int) -> Iterator[Part]:
        logs = self.folder / "logs"
        yield Part(
            DATABASE, server.command, server.folder, logs, {}, server.answers, server.user, signal.SIGINT
        )
        # Keeps nothing on the disk: with it all bells are lost.
        options = ("--port", str(broker_port), "--bind", "127.0.0.1", "--save", "", "--dir", ".")
        redis_server = [program("redis-server", package="redis-server"), *options]
        yield Part(BROKER, redis_server, self.folder / "broker", logs, {}, self._broker_answers)
        for name, command in self._commands().items():
            armed = [sys.executable, "-m", "tests.faults.armed", self.folder, name, *command]
            ready = self._listens if name == LISTENER else _at_once
            yield Part(name, armed, self.folder, logs, self.environment, ready)

    def _commands(self) -> dict[str, list[str]]:
        def worker(queue: str, pool: str) -> list[str]:
            options = ["--queues", queue, "--pool", pool, "--concurrency", "1", "--hostname", f"{queue}@rig"]
            return ["celery", "-A", "worker.app", "worker", *options]

        return {
            LISTENER: ["litegpt-node", "listen"],
            SWEEPER: ["litegpt-node", "sweep"],
            ANALYSIS: worker("analysis", "prefork"),
            DELIVERY: worker("delivery", "prefork"),
        }

    @property
    def environment(self) -> dict[str, str]:
        """The node's settings, as variables."""
        settings = {
            **QUICK,
            "data_dir": str(self.data_dir),
            "database_url": self.database,
            "broker_url": self._broker_url,
            "dicom_host": "127.0.0.1",
            "dicom_port": str(self.port),
            "destinations": self.pacs.destination,
            "quiet_seconds": "0.5",
            "analysis_lease_seconds": "3",
            "dimse_timeout_seconds": "2",
            "delivery_lease_seconds": "3",
            "retry_maximum_seconds": "2",
            "maximum_attempts": "20",
        }
        root = Path(__file__).resolve().parents[2]
        return {
            **{PREFIX + name.upper(): value for name, value in settings.items()},
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH", "")])),
        }

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

    def start(self) -> None:
        """Starts everything, on an empty database."""
        self.parts[DATABASE].start_and_wait()
        self.parts[BROKER].start_and_wait()
        migrated = self.run_command("migrate")
        assert migrated.returncode == 0, migrated.stderr
        for name in (LISTENER, SWEEPER, ANALYSIS, DELIVERY):
            self.parts[name].start_and_wait()

    def tend(self) -> None:
        """Starts again what was killed, each after a pause of its own."""
        for part in self.parts.values():
            part.tend(lambda: self._luck.uniform(0, LONGEST_PAUSE_SECONDS))

    def stop(self) -> None:
        """Ends everything."""
        for part in reversed(self.parts.values()):
            part.stop()

    def _listens(self) -> bool:
        return listens(self.port)

    def _broker_answers(self) -> bool:
        try:
            with redis.Redis.from_url(self._broker_url, socket_connect_timeout=2) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False


def _at_once() -> bool:
    return True


@contextmanager
def rig_up(folder: Path, luck: random.Random) -> Iterator[Rig]:
    """A rig that is up until the block ends."""
    with private_server() as server, storescp(folder / "pacs", ae_title="PACS") as pacs:
        rig = Rig(folder / "node", server, pacs, luck)
        try:
            rig.start()
            yield rig
        finally:
            rig.stop()
