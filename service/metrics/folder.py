"""Where the processes of a node on one machine count: files of one folder, which the web server reads.

This is the multi-process mode of prometheus_client with two changes. A process counts under the lowest
number that no living process has, not under its process id: one that is started again goes on where the one
before it stood, and there are never more files than there were processes at once. And their space is taken
beforehand: they are mapped into memory, and who writes to such a page on a full disk is killed (SIGBUS).
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
from collections.abc import Iterator
from functools import cache
from itertools import count
from pathlib import Path
from typing import IO, Any, Final

from prometheus_client import Metric, values
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

log = logging.getLogger(__name__)

FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable that names the folder, as prometheus_client knows it; unset: each process counts
for itself alone, and nobody asks."""

_FILES: Final = ("counter", "histogram", "gauge_mostrecent")
"""The kinds of metrics that there are, as the names of their files begin."""

_FILE_BYTES: Final = 1 << 18
"""Room for some 1,500 values of a kind, several times as many as a process can have."""


def clean_folder(data_dir: Path) -> None:
    """An empty folder for a node that starts; this process and its children count into it."""
    folder = data_dir.absolute() / "metrics"
    os.environ.pop(FOLDER, None)
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        os.environ[FOLDER] = str(folder)
    except OSError as error:
        # No reason for a node not to work.
        log.warning("the processes count nothing: %s: %s", folder, error.strerror)


def choose_values() -> None:
    """Has the metrics that are made from now on count into the folder, or in memory where none can be had."""
    folder = os.environ.get(FOLDER)
    values.ValueClass = values.MutexValue
    if folder:
        try:
            values.ValueClass = _counting_into(folder)
        except OSError as error:
            log.warning("this process counts for itself alone: %s: %s", folder, error.strerror)


class CountedByProcesses(Collector):
    """What all processes have counted into a folder so far."""

    def __init__(self, folder: str) -> None:
        self._files = MultiProcessCollector(None, folder)  # type: ignore[no-untyped-call]

    def collect(self) -> Iterator[Metric]:
        """Reads the files."""
        yield from self._files.collect()  # type: ignore[no-untyped-call]


@cache
def _counting_into(folder: str) -> Any:
    """The values of this process and of those forked from it; of one kind, since each maps its files once."""
    number = _Number(Path(folder))
    number()
    return values.MultiProcessValue(number)  # type: ignore[no-untyped-call]


class _Number:
    """The number of the process that asks, also after a fork; it is given back when the process ends."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[int, tuple[str, IO[bytes]]] = {}

    def __call__(self) -> str:
        process = os.getpid()
        if process not in self._held:
            self._held = {process: self._take()}
        return self._held[process][0]

    def _take(self) -> tuple[str, IO[bytes]]:
        for number in count():
            lock = (self._folder / f"{number}.lock").open("wb")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.close()
                continue
            for name in _FILES:
                _allocate(self._folder / f"{name}_{number}.db")
            return str(number), lock
        raise AssertionError("unreachable")


def _allocate(path: Path) -> None:
    with path.open("ab") as file:
        if file.tell() < _FILE_BYTES:
            os.posix_fallocate(file.fileno(), 0, _FILE_BYTES)
