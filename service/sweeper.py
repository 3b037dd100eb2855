"""The sweeper: completes studies whose time has come, and rings while work waits.

It is the one part that must run for anything to move, and it may run twice: every step is a transaction of
its own that skips what another sweeper holds.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Final

from litegpt.errors import ModelError
from service import heartbeat, queue
from service.archive import Archive
from service.completion import Completion
from service.errors import TryAgain
from service.records import analyses, commitments, deliveries, safekeeping, webhook_calls, workers
from service.records.database import Records, utc_now
from service.rules.rulebook import Rulebook
from service.settings import Settings

log = logging.getLogger(__name__)

RING_AGAIN_SECONDS: Final = 5.0
"""While the same work waits, ring this often: a worker may have been killed with the bell in its hand."""

LEFTOVERS_EVERY_SECONDS: Final = 600.0

PART: Final = "sweeper"
"""Its name among the node's parts."""


class Sweeper:
    """One sweeper, with its own database connection."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._records = Records.open(settings)
        self._archive = Archive(settings.data_dir)
        self._rulebook = Rulebook(settings)
        self._bell = queue.Bell(settings)
        self._rung: dict[str, tuple[int, float]] = {}
        self._leftovers_at = 0.0
        self._complaint = ""

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
        heartbeat.rest(self._settings.data_dir, PART)
        self._records.close()
        self._bell.close()

    def sweep(self) -> None:
        """One round.

        Raises:
            TryAgain: If the records, the archive or the broker are away.
        """
        self._complete()
        # Before the bell: a sweeper whose broker is away is alive, and the workers' own checks tell the rest.
        heartbeat.beat(self._settings.data_dir, PART)
        self._ring_for_what_waits()
        self._remove_leftovers()

    def _complete(self) -> None:
        """Completes what is due, for the active model; without it studies wait, and all else goes on."""
        try:
            completion = Completion.at_present(self._settings, self._records, self._rulebook)
        except ModelError as error:
            if str(error) != self._complaint:
                log.error("no study is completed: %s", error)
            self._complaint = str(error)
            return
        self._complaint = ""
        completion.adopt_waiting(self._records)
        completion.complete_due(self._records)

    def _ring_for_what_waits(self) -> None:
        with self._records.reading() as session:
            waiting = {
                queue.ANALYSIS: analyses.count_due(session),
                queue.DELIVERY: deliveries.count_due(session)
                + commitments.count_due(session)
                + safekeeping.count_due(session)
                + webhook_calls.count_due(session),
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
        with self._records.writing() as session:
            workers.forget_dead(session, utc_now())
        removed = self._archive.sweep_incoming()
        queue.sweep_broker(self._settings)
        if removed:
            log.info("removed %d files that broken transfers left behind", removed)
