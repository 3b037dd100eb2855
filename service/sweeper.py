"""The sweeper: completes studies whose time has come, and rings while work waits.

It is the one part that must run for anything to move, and it may run twice: every step is a transaction of
its own that skips what another sweeper holds.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Final

from litegpt.identity import read_identity
from service import queue
from service.archive import Archive
from service.completion import Completion
from service.errors import TryAgain
from service.records import analyses, deliveries
from service.records.database import Records
from service.settings import Settings

log = logging.getLogger(__name__)

RING_AGAIN_SECONDS: Final = 5.0
"""While the same work waits, ring this often: a worker may have been killed with the bell in its hand."""

LEFTOVERS_EVERY_SECONDS: Final = 600.0
BEAT_IS_OLD_SECONDS: Final = 30.0


class Sweeper:
    """One sweeper, with its own database connection."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._records = Records.open(settings)
        self._archive = Archive(settings.data_dir)
        self._completion = Completion.of(settings, read_identity(settings.model))
        self._bell = queue.Bell(settings)
        self._rung: dict[str, tuple[int, float]] = {}
        self._leftovers_at = 0.0

    def run(self, stop: threading.Event) -> None:
        """Sweeps until ``stop`` is set, whatever happens: without it nothing moves."""
        while not stop.is_set():
            try:
                self.sweep()
            except TryAgain as error:
                log.warning("sweep put off: %s", error)
            except Exception:  # the task's edge: a full disk or a fault of ours must not end the sweeping
                log.exception("sweep broke off")
            stop.wait(self._settings.sweep_interval_seconds)
        self._records.close()
        self._bell.close()

    def sweep(self) -> None:
        """One round.

        Raises:
            TryAgain: If the records, the archive or the broker are away.
        """
        self._completion.adopt_waiting(self._records)
        self._completion.complete_due(self._records)
        # Before the bell: a sweeper whose broker is away is alive, and the workers' own checks tell the rest.
        beat_file(self._settings.data_dir).write_text(f"{time.time()}\n", encoding="ascii")
        self._ring_for_what_waits()
        self._remove_leftovers()

    def _ring_for_what_waits(self) -> None:
        with self._records.reading() as session:
            waiting = {
                queue.ANALYSIS: analyses.count_due(session),
                queue.DELIVERY: deliveries.count_due(session),
            }
        for name, count in waiting.items():
            before, at = self._rung.get(name, (0, 0.0))
            now = time.monotonic()
            if count > before or (count and now - at >= RING_AGAIN_SECONDS):
                self._bell.ring(name)
                at = now
            self._rung[name] = (count, at)

    def _remove_leftovers(self) -> None:
        now = time.monotonic()
        if self._leftovers_at and now - self._leftovers_at < LEFTOVERS_EVERY_SECONDS:
            return
        self._leftovers_at = now
        removed = self._archive.sweep_incoming()
        queue.sweep_broker(self._settings)
        if removed:
            log.info("removed %d files that broken transfers left behind", removed)


def beat_file(data_dir: Path) -> Path:
    """Where the sweeper of this machine leaves its beat; the folder may be shared by several."""
    return data_dir / f"sweeper.{socket.gethostname()}.beat"


def is_beating(data_dir: Path) -> bool:
    """Whether the sweeper of this machine has completed studies lately."""
    return _is_fresh(beat_file(data_dir))


def some_is_beating(data_dir: Path) -> bool:
    """Whether a sweeper of any machine has, of those that share the folder."""
    return any(_is_fresh(file) for file in data_dir.glob("sweeper.*.beat"))


def _is_fresh(file: Path) -> bool:
    try:
        beat = float(file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return False
    return time.time() - beat < timedelta(seconds=BEAT_IS_OLD_SECONDS).total_seconds()
