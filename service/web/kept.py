"""An answer that is asked for in a thread of its own, kept for a while, and never waited for too long.

Whatever hangs has one thread and no more, however often it is asked for.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from service.errors import NodeError

Answer = TypeVar("Answer")

log = logging.getLogger(__name__)


class Kept(Generic[Answer]):
    """What a call returned last."""

    def __init__(
        self,
        name: str,
        ask: Callable[[], Answer],
        fresh_seconds: float,
        *,
        most_of_time: float = 1.0,
        survives_errors: bool = False,
    ) -> None:
        """Args:
        name: Of the thread, and in the log.
        ask: The call; an error of it is logged, and the answer is then ``None``.
        fresh_seconds: For how long an answer is kept.
        most_of_time: It is kept for longer where asking again would take more than this part of all time.
        survives_errors: Whether the answer before stays instead, which then has to say when it was given.
        """
        self._name = name
        self._ask = ask
        self._fresh_seconds = fresh_seconds
        self._most_of_time = most_of_time
        self._survives_errors = survives_errors
        self._lock = threading.Lock()
        self._answered = threading.Event()
        self._answered.set()
        self._fresh_until = self._asked_at = self._took = 0.0
        self.last: Answer | None = None

    def begin(self) -> None:
        """Asks again, unless that is being done, or was done a moment ago."""
        with self._lock:
            if not self._answered.is_set() or time.monotonic() < self._fresh_until:
                return
            self._answered.clear()
            self._asked_at = time.monotonic()
            # A daemon: where it hangs it must not hold the end of the process up.
            threading.Thread(target=self._run, name=self._name, daemon=True).start()

    def is_answered_by(self, deadline: float) -> bool:
        """Waits until ``last`` is fresh, or until ``deadline`` on ``time.monotonic``'s clock."""
        return self._answered.wait(max(0.0, deadline - time.monotonic()))

    def within(self, seconds: float) -> Answer | None:
        """What was answered last; the next answer where it is there so soon after it was asked for.

        One that takes longer is not waited for, nor one that took longer the last time.
        """
        self.begin()
        if self._took < seconds:
            self.is_answered_by(self._asked_at + seconds)
        return self.last

    @property
    def overdue_seconds(self) -> float:
        """For how long an answer has been waited for by now; 0 where none is."""
        return 0.0 if self._answered.is_set() else time.monotonic() - self._asked_at

    def _run(self) -> None:
        start = time.monotonic()
        try:
            self.last = self._ask()
        except NodeError as error:
            log.warning("%s: %s", self._name, error)
            self._forget()
        except Exception:  # the thread's edge
            log.exception("%s broke off", self._name)
            self._forget()
        end = time.monotonic()
        self._took = end - start
        self._fresh_until = end + max(self._fresh_seconds, self._took / self._most_of_time)
        self._answered.set()

    def _forget(self) -> None:
        if not self._survives_errors:
            self.last = None
