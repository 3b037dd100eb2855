"""Digests of datasets, taken while they arrive: on another core than that which receives.

The SHA-256 of ten megabytes takes as long as receiving them where the processor has no instruction for it.
"""

from __future__ import annotations

import hashlib
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from service.received import Digest

_AT_ONCE_BYTES: Final = 1 << 20
"""Of each dataset so much is digested where it is received: handing it over would cost as much again."""

_WORTH_A_THREAD_BYTES: Final = 1 << 19
"""Of the rest, less is not handed over to another thread."""

_MOST_WAITING_BYTES: Final = 1 << 23
"""Received and not digested yet; more is not received meanwhile."""


class Digester:
    """The digest of one dataset, part by part. One thread updates and finishes it."""

    def __init__(self, threads: ThreadPoolExecutor) -> None:
        self._threads = threads
        self._sha256 = hashlib.sha256()
        self._parts: deque[bytes | memoryview] = deque()
        self._changed = threading.Condition()
        self._waiting_bytes = self._bytes = 0
        self._is_running = False

    def update(self, part: bytes | memoryview) -> None:
        """Takes the next part of the dataset."""
        self._bytes += len(part)
        if self._bytes <= _AT_ONCE_BYTES:
            self._sha256.update(part)
            return
        with self._changed:
            self._changed.wait_for(lambda: self._waiting_bytes < _MOST_WAITING_BYTES)
            self._parts.append(part)
            self._waiting_bytes += len(part)
            if not self._is_running and self._waiting_bytes >= _WORTH_A_THREAD_BYTES:
                self._is_running = True
                self._threads.submit(self._run)

    def digest(self) -> Digest:
        """That of all parts."""
        with self._changed:
            self._changed.wait_for(lambda: not self._is_running)
        self._run()  # what was not worth it
        return Digest(self._sha256.hexdigest(), self._bytes)

    def _run(self) -> None:
        while (part := self._next()) is not None:  # a part may be empty
            self._sha256.update(part)
            with self._changed:
                self._waiting_bytes -= len(part)
                self._changed.notify_all()

    def _next(self) -> bytes | memoryview | None:
        with self._changed:
            if self._parts:
                return self._parts.popleft()
            self._is_running = False
            self._changed.notify_all()
            return None
