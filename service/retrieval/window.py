"""The part of the day in which a job may work, such as 20:00-06:00, by the hospital's clock."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, time
from typing import Final, Self
from zoneinfo import ZoneInfo

_WRITTEN: Final = re.compile(r"([0-9]{1,2}):([0-9]{2})-([0-9]{1,2}):([0-9]{2})")


@dataclass(frozen=True, slots=True)
class Window:
    """From ``opens`` on, up to but not at ``closes``; over midnight where that is earlier."""

    opens: time
    closes: time

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads ``HH:MM-HH:MM``.

        Raises:
            ValueError: If it is none, or closes when it opens.
        """
        match = _WRITTEN.fullmatch(text.strip())
        hour, minute, last_hour, last_minute = map(int, match.groups()) if match else [99] * 4
        try:
            opens, closes = time(hour, minute), time(last_hour, last_minute)
        except ValueError:
            raise ValueError(f"a window is written 20:00-06:00, not {text!r}") from None
        if opens == closes:
            raise ValueError(f"a window closes at another time than it opens, not {text!r}")
        return cls(opens, closes)

    def is_open(self, now: datetime, zone: ZoneInfo) -> bool:
        """Whether it is open at a moment."""
        at = now.astimezone(zone).time()
        if self.opens < self.closes:
            return self.opens <= at < self.closes
        return at >= self.opens or at < self.closes

    def __str__(self) -> str:
        return f"{self.opens:%H:%M}-{self.closes:%H:%M}"


def is_open(written: str, now: datetime, zone: ZoneInfo) -> bool:
    """Whether a window as a job keeps it is open; one that is empty always is."""
    return not written or Window.parse(written).is_open(now, zone)
