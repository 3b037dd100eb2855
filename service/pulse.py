"""A worker process says that it is alive, and what it is doing, by a row that a thread of its own writes.

The web server may be on another machine, so no file would do. Records that are away keep no worker from its
work: they are told again when they are back.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

from service.errors import OutOfResources, in_words
from service.records import workers
from service.records.database import Records, utc_now
from service.records.workers import Saying
from service.settings import Settings

log = logging.getLogger(__name__)

BEATS_EVERY_SECONDS: Final = 5.0
_GOODBYE_SECONDS: Final = 3.0


class Pulse:
    """One process's. Make it after a fork, never before."""

    def __init__(self, settings: Settings, part: str, every_seconds: float = BEATS_EVERY_SECONDS) -> None:
        """Args:
        settings: Where the records are.
        part: The queue that the process works on.
        every_seconds: How often it is written.
        """
        self._settings = settings
        self._every_seconds = every_seconds
        self._saying = Saying(part, socket.gethostname(), os.getpid(), utc_now())
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Beats from now on."""
        if self._thread is None:
            # A daemon: a database that hangs must not hold the end of the process up.
            self._thread = threading.Thread(target=self._run, name="pulse", daemon=True)
            self._thread.start()

    def end(self) -> None:
        """The process ends in order: its row goes, where the records take that soon enough."""
        self._over.set()
        if self._thread is not None:
            self._thread.join(_GOODBYE_SECONDS)

    def has_loaded(self, model: str, device: str) -> None:
        """Says which models are loaded, and on what device."""
        self._saying = replace(self._saying, model=model, device=device)

    @contextmanager
    def busy(self, with_how_many: int) -> Iterator[None]:
        """The process works on so many analyses, or deliveries, until the block ends."""
        self._has_in_hand(with_how_many)
        try:
            yield
        finally:
            self._has_in_hand(0)

    def _has_in_hand(self, number: int) -> None:
        self._saying = replace(self._saying, in_hand=number, busy_since=utc_now() if number else None)

    def _run(self) -> None:
        records = Records.open(self._settings)
        row_id: int | None = None
        complaint = ""
        while not self._over.is_set():
            try:
                row_id = self._beat(records, row_id)
                if complaint:
                    log.info("this worker is in the records again")
                complaint = ""
            except OutOfResources as error:
                complaint = self._complain(complaint, str(error))
            except Exception as error:  # noqa: BLE001 - the thread's edge, which is no reason not to work
                complaint = self._complain(complaint, in_words(error))
            self._over.wait(self._every_seconds)
        self._leave(records, row_id)
        records.close()

    def _beat(self, records: Records, row_id: int | None) -> int:
        with records.writing() as session:
            if row_id is None:
                workers.replace_dead(session, self._saying, _is_alive)
            return workers.beat(session, row_id, self._saying, utc_now())

    def _leave(self, records: Records, row_id: int | None) -> None:
        if row_id is None:
            return
        try:
            with records.writing() as session:
                workers.leave(session, row_id)
        except OutOfResources as error:
            log.info("the records keep this worker for a day: %s", error)

    def _complain(self, before: str, now: str) -> str:
        """Once, and not at each beat."""
        if not before:
            log.warning("the records do not know that this worker is alive: %s", now)
        return now


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True
