"""Loading the next images while the model reads the last ones."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeVar

Item = TypeVar("Item")
Loaded = TypeVar("Loaded")

THREADS: Final = min(4, os.cpu_count() or 1)
"""Decoders of pixel data are C and let other threads run."""


def load_ahead(
    items: Iterable[Item], load: Callable[[Item], Loaded], depth: int
) -> Iterator[tuple[Item, Callable[[], Loaded]]]:
    """Loads items in threads, at most ``depth`` more than were asked for.

    Args:
        items: What to load.
        load: Does it; called in any thread.
        depth: How many items to be ahead.

    Yields:
        Each item in turn, and a call that waits for what was loaded, or raises what ``load`` raised.
    """
    pool = ThreadPoolExecutor(THREADS, thread_name_prefix="load")
    waiting: deque[tuple[Item, Future[Loaded]]] = deque()
    broken_off = True
    try:
        for item in items:
            waiting.append((item, pool.submit(load, item)))
            if len(waiting) > depth:
                first, future = waiting.popleft()
                yield first, future.result
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result
        broken_off = False  # what was handed out may still be waited for
    finally:
        pool.shutdown(cancel_futures=broken_off)
