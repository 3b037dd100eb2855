"""The sweeper: completes studies whose time has come, and rings while work waits.

It is the one part that must run for anything to move, and it may run twice: every step is a transaction of
its own that skips what another sweeper holds.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from contextlib import suppress
from datetime import datetime
from typing import Final

from litegpt.errors import ModelError
from service import heartbeat, queue
from service.archive import Archive
from service.completion import STUDIES_AT_ONCE, Completion
from service.errors import TryAgain
from service.records import (
    analyses,
    commitments,
    deliveries,
    safekeeping,
    set_back,
    webhook_calls,
    workers,
)
from service.records.database import Records, utc_now
from service.rules.rulebook import Rulebook
from service.settings import Settings

log = logging.getLogger(__name__)

RING_AGAIN_SECONDS: Final = 5.0
"""While the same work waits, ring this often: a worker may have been killed with the bell in its hand."""

SHORTEST_PAUSE_SECONDS: Final = 0.02
"""Where studies are due one right after the other, some are completed together."""

LEFTOVERS_EVERY_SECONDS: Final = 600.0

SET_BACK_EVERY_SECONDS: Final = 60.0
"""So often it looks for what was written before the clock was set back."""

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
        self._put_right_at = 0.0
        self._complaint = ""

    def run(self, stop: threading.Event) -> None:
        """Sweeps until ``stop`` is set, whatever happens: without it nothing moves."""
        while not stop.is_set():
            pause_seconds = self._settings.sweep_interval_seconds
            try:
                pause_seconds = self.sweep()
            except TryAgain as error:
                log.warning("sweep put off: %s", error)
            except Exception:  # the task's edge: a full disk or a fault of ours must not end the sweeping
                log.exception("sweep broke off")
            stop.wait(pause_seconds)
        heartbeat.rest(self._settings.data_dir, PART)
        self._records.close()
        self._bell.close()

    def sweep(self) -> float:
        """One round.

        Returns:
            Seconds until the next one: the interval, or less where a study's time comes before.

        Raises:
            TryAgain: If the records, the archive or the broker are away.
        """
        self._put_clock_right()
        next_at = self._complete()
        # Before the bell: a sweeper whose broker is away is alive, and the workers' own checks tell the rest.
        heartbeat.beat(self._settings.data_dir, PART)
        self._ring_for_what_waits()
        self._remove_leftovers()
        interval = self._settings.sweep_interval_seconds
        if next_at is None:
            return interval
        return min(max((next_at - utc_now()).total_seconds(), SHORTEST_PAUSE_SECONDS), interval)

    def _complete(self) -> datetime | None:
        """Completes what is due, for the active model, and rings at once; without it studies wait, and all
        else goes on.

        Returns:
            When the next study is due.
        """
        try:
            completion = Completion.at_present(self._settings, self._records, self._rulebook)
        except ModelError as error:
            if str(error) != self._complaint:
                log.error("no study is completed: %s", error)
            self._complaint = str(error)
            return None
        self._complaint = ""
        begun = utc_now()
        completed = completion.complete_due(self._records)
        if completed:
            self._rung.pop(queue.ANALYSIS, None)  # as many may wait as before and be others
            with suppress(TryAgain):  # rung again below, where what is wrong is told
                self._bell.ring(queue.ANALYSIS)
                self._rung[queue.ANALYSIS] = (sys.maxsize, time.monotonic())  # no more than that can wait
        completion.adopt_waiting(self._records)  # which goes through all that waits
        if completed >= STUDIES_AT_ONCE:
            return begun
        return completion.next_due(self._records, begun)

    def _put_clock_right(self) -> None:
        """Has nothing wait for a time that was written before the clock was set back."""
        now = time.monotonic()
        if self._put_right_at and now - self._put_right_at < SET_BACK_EVERY_SECONDS:
            return
        self._put_right_at = now
        with self._records.writing() as session:
            rows = set_back.put_right(session, self._settings, utc_now())
        if rows:
            log.warning("the clock was set back: %d rows would have waited for it, and are put right", rows)

    def _ring_for_what_waits(self) -> None:
        """Rings where more waits than before, or still does."""
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
            if count and (count > before or now - at >= RING_AGAIN_SECONDS):
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
