"""Where the time of a reading goes, for those who want to know."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Stopwatch:
    """Adds up seconds by stage. On a GPU it waits for the device around each stage."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Counts the time of the block to a stage."""
        _wait_for_device()
        start = time.perf_counter()
        try:
            yield
        finally:
            _wait_for_device()
            self.seconds[name] += time.perf_counter() - start


def _wait_for_device() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
