"""An answer that is asked for in a thread of its own, kept for a while, and never waited for too long.

Whatever hangs has one thread and no more, however often it is asked for.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

Answer = TypeVar("Answer")

log = logging.getLogger(__name__)


class Kept(Generic[Answer]):
    """What a call returned last."""

    def __init__(
        self, name: str, ask: Callable[[], Answer], fresh_seconds: float, *, most_of_time: float = 1.0
    ) -> None:
        """Args:
        name: Of the thread, and in the log.
        ask: The call; an error of it is logged, and the answer is then ``None``.
        fresh_seconds: For how long an answer is kept.
        most_of_time: It is kept for longer where asking again would take more than this part of all time.
        """
        self._name = name
        self._ask = ask
        self._fresh_seconds = fresh_seconds
        self._most_of_time = most_of_time
        self._lock = threading.Lock()
        self._answered = threading.Event()
        self._answered.set()
        self._fresh_until = 0.0
        self.last: Answer | None = None

    def begin(self) -> None:
        """Asks again, unless that is being done, or was done a moment ago."""
        with self._lock:
            if not self._answered.is_set() or time.monotonic() < self._fresh_until:
                return
            self._answered.clear()
            # A daemon: where it hangs it must not hold the end of the process up.
            threading.Thread(target=self._run, name=self._name, daemon=True).start()

    def is_answered_by(self, deadline: float) -> bool:
        """Waits until ``last`` is fresh, or until ``deadline`` on ``time.monotonic``'s clock."""
        return self._answered.wait(max(0.0, deadline - time.monotonic()))

    def _run(self) -> None:
        start = time.monotonic()
        try:
            self.last = self._ask()
        except Exception:  # the thread's edge
            log.exception("%s broke off", self._name)
            self.last = None
        end = time.monotonic()
        self._fresh_until = end + max(self._fresh_seconds, (end - start) / self._most_of_time)
        self._answered.set()
