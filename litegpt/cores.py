"""How many cores this process may use: fewer than the machine has where it, or its container, is bound."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Final

_QUOTA: Final = Path("/sys/fs/cgroup/cpu.max")
"""Microseconds of all cores together, and of which period; "max": no limit (Linux, cgroup v2)."""


def usable_cores(quota: Path = _QUOTA) -> int:
    """Cores, at least 1: those that it is bound to, or as many as a container's share of time comes to.

    Args:
        quota: The file that tells the share.
    """
    bound = len(os.sched_getaffinity(0))
    try:
        allowed, period = quota.read_text(encoding="ascii").split()
        return min(bound, max(1, math.ceil(int(allowed) / int(period))))
    except (OSError, ValueError, ArithmeticError):
        return bound
