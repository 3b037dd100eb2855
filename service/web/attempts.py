"""How often somebody may try to sign in: per name, and per address."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final

WINDOW_SECONDS: Final = 900.0
PER_NAME: Final = 10
PER_ADDRESS: Final = 30

_REMEMBERED: Final = 10_000
"""Names and addresses; of more, those that tried longest ago are forgotten."""


class Attempts:
    """Counts attempts within the last quarter of an hour, in this process's memory."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._tried: OrderedDict[tuple[str, str], deque[float]] = OrderedDict()

    def take(self, name: str, address: str) -> bool:
        """Counts an attempt, before it is looked at; False where there were too many already."""
        keys = {("name", name.strip().lower()[:64]): PER_NAME, ("address", address): PER_ADDRESS}
        now = self._clock()
        with self._lock:
            full = [len(self._recent(key, now)) >= limit for key, limit in keys.items()]
            if any(full):
                return False
            for key in keys:
                self._tried[key].append(now)
            return True

    def forgive(self, name: str, address: str) -> None:
        """Forgets a name's attempts, for its user has signed in; and that one attempt of the address."""
        with self._lock:
            self._tried.pop(("name", name.strip().lower()[:64]), None)
            if tried := self._tried.get(("address", address)):
                tried.pop()

    def are_too_many(self, address: str) -> bool:
        """Whether an address has used up its attempts; asking counts as none."""
        with self._lock:
            return len(self._recent(("address", address), self._clock())) >= PER_ADDRESS

    def note_failure(self, address: str) -> None:
        """Counts an attempt of an address that is known to have failed."""
        with self._lock:
            now = self._clock()
            self._recent(("address", address), now).append(now)

    def _recent(self, key: tuple[str, str], now: float) -> deque[float]:
        tried = self._tried.setdefault(key, deque())
        self._tried.move_to_end(key)
        while tried and tried[0] <= now - WINDOW_SECONDS:
            tried.popleft()
        while len(self._tried) > _REMEMBERED:
            self._tried.popitem(last=False)
        return tried
