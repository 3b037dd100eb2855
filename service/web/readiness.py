"""What ``/health/ready`` answers from: looks at what the node stands on; none can hang it."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Final

from service import checks
from service.checks import Line
from service.settings import Settings
from service.web.kept import Kept

LIMIT_SECONDS: Final = 3.0
"""After this an answer is not waited for any longer."""

_FRESH_SECONDS: Final = 2.0
_AT_ONCE_SECONDS: Final = 0.1

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
        self._looks = {
            name: Kept(f"look at the {name}", partial(_look, name, look, settings), _FRESH_SECONDS)
            for name, look in _LOOKS.items()
        }

    def ask(self) -> list[Line]:
        """A line for each dependency, within :data:`LIMIT_SECONDS`."""
        deadline = time.monotonic() + LIMIT_SECONDS
        for look in self._looks.values():
            look.begin()
        return [_line(name, look, deadline) for name, look in self._looks.items()]

    def latest(self) -> list[Line]:
        """The same, as it was a moment ago at most where all is well, and at once."""
        return [_latest(name, look) for name, look in self._looks.items()]


def _look(name: str, look: Callable[[Settings], str], settings: Settings) -> Line:
    return checks.line(name, partial(look, settings))


def _latest(name: str, look: Kept[Line]) -> Line:
    line = look.within(_AT_ONCE_SECONDS)
    waited = look.overdue_seconds
    if waited > LIMIT_SECONDS or (line is None and waited):
        return Line(name, "", f"no answer within {waited:.1f} s")
    return line or _fault(name)


def _line(name: str, look: Kept[Line], deadline: float) -> Line:
    if not look.is_answered_by(deadline):
        return Line(name, "", f"no answer within {LIMIT_SECONDS:g} s")
    return look.last or _fault(name)


def _fault(name: str) -> Line:
    return Line(name, "", "a fault of the node; its log tells more")
