"""``up``: a whole node under one command. Listener, sweeper and retriever run here; workers beside.

Celery's workers must be processes of their own (a GPU's context does not survive a fork, and a crashing
decoder must not take the listener along), so they are started as in production and again when they end.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from service import queue
from service.errors import SettingsError
from service.listeners import Listeners
from service.metrics import folder
from service.records.database import Records
from service.records.migrate import migrate
from service.retrieval.retriever import Retriever
from service.rules.rulebook import Rules
from service.settings import Settings
from service.supervised import STOP_SECONDS, Child
from service.sweeper import Sweeper
from service.wire.listener import Listener

log = logging.getLogger(__name__)

UP_FILE: Final = "up.json"
"""In the data folder while the node is up: its process id and the ports it listens on."""


def worker_command(name: str, pool: str, log_level: str) -> list[str]:
    """The command of a Celery worker for one queue."""
    return [
        *(sys.executable, "-m", "celery", "--quiet", "-A", "worker.app", "worker"),
        *("--queues", name, "--hostname", f"{name}@%h", "--pool", pool, "--concurrency", "1"),
        *("--loglevel", log_level, "--without-gossip", "--without-mingle", "--without-heartbeat"),
    ]


@dataclass(slots=True)
class Supervisor:
    """A node and its workers, from start to stop."""

    settings: Settings
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Runs until ``stop`` is set.

        Raises:
            SettingsError: If the port, the database or the model cannot be used.
            OutOfResources: If the data folder cannot be written.
        """
        with alone_in(self.settings.data_dir):
            self._run()

    def _run(self) -> None:
        Rules.read(self.settings)  # before anything starts: a wrong file is a line here, not a worker's end
        self._prepare_records()
        folder.clean_folder(self.settings.data_dir)
        queue.prepare_broker(self.settings)
        listener = self._listener()
        threads = [
            threading.Thread(target=part.run, args=(self.stop,), name=name)
            for name, part in (("sweeper", Sweeper(self.settings)), ("retriever", Retriever(self.settings)))
        ]
        children = [
            self._worker(queue.ANALYSIS, pool="prefork"),
            self._worker(queue.DELIVERY, pool="solo"),
            *self._web(),
        ]
        up_file = self.settings.data_dir / UP_FILE
        try:
            for child in children:
                child.start()
            for thread in threads:
                thread.start()
            up_file.write_text(json.dumps({"pid": os.getpid(), **listener.ports}), encoding="ascii")
            while not self.stop.wait(0.2):
                for child in children:
                    child.tend()
                if isinstance(listener, Listeners):
                    listener.tend()
        finally:
            self.stop.set()
            up_file.unlink(missing_ok=True)
            for child in children:
                child.ask_to_stop()
            deadline = time.monotonic() + STOP_SECONDS
            listener.stop()
            for child in children:
                child.stop(deadline)
            for thread in threads:
                if thread.ident is not None:
                    thread.join()

    def _listener(self) -> Listener | Listeners:
        """Here, or in processes beside where there are to be several."""
        if self.settings.listener_processes > 1:
            return Listeners.start(self.settings)
        listener = Listener(self.settings)
        listener.start()
        return listener

    def _prepare_records(self) -> None:
        records = Records.open(self.settings)
        try:
            if self.settings.embedded_database:
                before, after = migrate(records.engine)
                if before != after:
                    log.info("embedded database migrated from %s to %s", before or "nothing", after)
            records.require_schema()
        finally:
            records.close()

    def _worker(self, name: str, pool: str) -> Child:
        command = worker_command(name, pool, self.settings.log_level)
        return Child(f"{name} worker", command, self._environment())

    def _web(self) -> list[Child]:
        """The web server: a process of its own, so that nothing that a browser asks for holds an image up."""
        if self.settings.web_port is None and self.settings.metrics_port is None:
            return []
        command = [sys.executable, "-m", "service.cli.main", "web", "--wait-for-port"]
        return [Child("web server", command, self._environment())]

    def _environment(self) -> dict[str, str]:
        return os.environ | self.settings.as_environment()


@contextmanager
def alone_in(data_dir: Path) -> Iterator[None]:
    """Keeps a second node off the same folder; the lock goes with the process, however it ends.

    Raises:
        SettingsError: If a node is up there.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / "up.lock").open("w", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SettingsError(f"a node is up in {data_dir} already") from None
        yield


def running_port(data_dir: Path, name: str = "dicom_port") -> int | None:
    """The port, of plain DICOM or of TLS, of the node that is up on this data folder; None where none is.

    Args:
        data_dir: The folder.
        name: The port's setting.
    """
    try:
        state = json.loads((data_dir / UP_FILE).read_text(encoding="ascii"))
        os.kill(int(state["pid"]), 0)
        return int(state[name])
    except (OSError, ValueError, KeyError):
        return None
