"""What ``/health/ready`` answers from: looks at what the node stands on, none of which can hang the answer.

Each look has at most one thread, which may hang as long as it likes: a broker that accepts and never answers
costs one thread and one line. What was seen a moment ago is told again, so that asking often costs nothing.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from service import checks
from service.checks import Line
from service.settings import Settings

log = logging.getLogger(__name__)

LIMIT_SECONDS: Final = 3.0
"""After this an answer is not waited for any longer."""

FRESH_SECONDS: Final = 2.0

_LOOKS: Final[dict[str, Callable[[Settings], str]]] = {
    "database": checks.database,
    "broker": checks.broker,
    "archive": checks.archive,
    "sweeper": checks.sweeper,
    "model": checks.model,
}


class Readiness:
    """Looks at a node's dependencies, all at once."""

    def __init__(self, settings: Settings) -> None:
        self._looks = [_Look(name, partial(look, settings)) for name, look in _LOOKS.items()]

    def ask(self) -> list[Line]:
        """A line for each dependency, within :data:`LIMIT_SECONDS`."""
        deadline = time.monotonic() + LIMIT_SECONDS
        for look in self._looks:
            look.begin()
        return [look.answer(deadline) for look in self._looks]


class _Look:
    def __init__(self, name: str, look: Callable[[], str]) -> None:
        self._name = name
        self._look = look
        self._lock = threading.Lock()
        self._answered = threading.Event()
        self._answered.set()
        self._line: Line | None = None
        self._fresh_until = 0.0

    def begin(self) -> None:
        """Looks again, unless that is being done or has just been."""
        with self._lock:
            if not self._answered.is_set() or time.monotonic() < self._fresh_until:
                return
            self._answered.clear()
            # A daemon: where it hangs it must not hold the end of the process up.
            threading.Thread(target=self._run, name=f"look at {self._name}", daemon=True).start()

    def answer(self, deadline: float) -> Line:
        """What was seen, waited for until ``deadline`` on ``time.monotonic``'s clock."""
        seen = self._answered.wait(max(0.0, deadline - time.monotonic()))
        if seen and self._line is not None:
            return self._line
        return Line(self._name, "", f"no answer within {LIMIT_SECONDS:g} s")

    def _run(self) -> None:
        try:
            self._line = checks.line(self._name, self._look)
        except Exception as error:  # the thread's edge: a fault of ours is no readiness
            log.exception("the look at the %s broke off", self._name)
            self._line = Line(self._name, "", type(error).__name__)
        self._fresh_until = time.monotonic() + FRESH_SECONDS
        self._answered.set()
