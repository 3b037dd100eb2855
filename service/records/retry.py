"""How work waits for another attempt: back-off with jitter, kept in the records and never in the queue."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import timedelta

from service.settings import Settings


@dataclass(frozen=True, slots=True)
class Retry:
    """When to try again, and when to stop."""

    first: timedelta
    maximum: timedelta
    maximum_attempts: int

    @classmethod
    def of(cls, settings: Settings) -> Retry:
        """What the settings ask for."""
        return cls(
            timedelta(seconds=settings.retry_first_seconds),
            timedelta(seconds=settings.retry_maximum_seconds),
            settings.maximum_attempts,
        )

    def wait(self, attempt: int) -> timedelta:
        """How long to wait after the ``attempt``-th attempt (1, 2, …) failed.

        Doubles from ``first`` up to ``maximum``; half of it is random, so that what failed together does not
        come back together.
        """
        full = min(self.maximum, self.first * (1 << min(attempt - 1, 16)))
        return full * random.uniform(0.5, 1.0)
