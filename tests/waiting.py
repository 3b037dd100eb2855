"""Waits for a condition instead of for a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")

_FIRST_PAUSE_SECONDS = 0.01
LONGEST_PAUSE_SECONDS = 0.25


def wait_until(
    condition: Callable[[], Value],
    timeout_seconds: float,
    what: str,
    longest_pause_seconds: float = LONGEST_PAUSE_SECONDS,
) -> Value:
    """Asks until the answer is truthy, and returns it.

    Args:
        condition: Asked again and again, at growing intervals.
        timeout_seconds: How long to go on asking.
        what: What is waited for, as a noun, for the error's text.
        longest_pause_seconds: The longest interval; whoever measures wants a short one.

    Raises:
        TimeoutError: If the time is over; the text names ``what`` and the last answer.
    """
    deadline = time.monotonic() + timeout_seconds
    pause = _FIRST_PAUSE_SECONDS
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() >= deadline:
            raise TimeoutError(f"no {what} within {timeout_seconds:g} s; last answer: {answer!r}")
        time.sleep(pause)
        pause = min(2 * pause, longest_pause_seconds)
