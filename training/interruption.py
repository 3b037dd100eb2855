"""Ctrl-C during a run: the step in hand is finished and all is saved; a second one stops at once."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

INTERRUPTED: Final = 128 + signal.SIGINT
"""Exit code of a command that was asked to stop, as shells have it for Ctrl-C."""


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Yields a function that says whether someone asked to stop, by Ctrl-C or SIGTERM."""
    asked: list[int] = []

    def ask(number: int, frame: FrameType | None) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    former = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
