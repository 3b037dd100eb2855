"""How long the rest of a study will take, from the runs of this sitting."""

from __future__ import annotations

import time
from collections.abc import Callable


class Pace:
    """Told of each run, it knows about how long the others will take.

    It takes every run to be as long as the mean of those that it saw. The first one also makes the shared
    start, so what is said after it is too much.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since = clock()
        self._runs = 0

    def run_ended(self) -> None:
        """Another run took the time until now."""
        self._runs += 1

    def left(self, runs: int) -> str:
        """In words, how long so many more runs will take; empty where nobody can know or none is left."""
        if not runs or not self._runs:
            return ""
        minutes = round((self._clock() - self._since) / self._runs * runs / 60)
        hours, rest = divmod(minutes, 60)
        if hours:
            return f", about {hours} h {rest} min left"
        return f", about {rest} min left" if rest else ", less than a minute left"
