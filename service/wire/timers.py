"""pynetdicom's time-outs on a clock that nobody sets.

pynetdicom 3.0.4 takes them from the time of day: set forward, all associations time out at once; set back,
one that is silent stays until that time is there again.
"""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

from pynetdicom import timer


def count_on_the_monotonic_clock() -> None:
    """For all associations of this process."""
    inner: Any = timer
    inner.time = SimpleNamespace(time=time.monotonic)
