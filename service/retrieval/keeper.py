"""Keeps a claim while a retriever waits for a PACS, and breaks the wait off when it must not go on."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Final, Protocol, Self

from pynetdicom.association import Association

from service.errors import LeaseLost, TryAgain

log = logging.getLogger(__name__)

_LOOKS_EVERY_SECONDS: Final = 0.2


class Associated(Protocol):
    """Something that waits for a peer on an association."""

    association: Association


class Keeper:
    """A thread beside the work, for the length of a ``with`` block.

    Attributes:
        broken_off: Whether the work was broken off from here.
    """

    def __init__(self, renew: Callable[[], None], every_seconds: float, stop: threading.Event) -> None:
        self.broken_off = False
        self._lost = False
        self._renew = renew
        self._every_seconds = every_seconds
        self._stop = stop
        self._done = threading.Event()
        self._watched: Associated | None = None
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def watch(self, watched: Associated) -> None:
        """Names what is to be broken off when the retriever is stopped, or the claim is lost."""
        self._watched = watched

    def _run(self) -> None:
        renew_at = time.monotonic() + self._every_seconds
        while not self._done.wait(_LOOKS_EVERY_SECONDS):
            if self._lost or self._stop.is_set():
                self._break_off()
            elif time.monotonic() >= renew_at:
                renew_at = time.monotonic() + self._every_seconds
                self._renew_once()

    def _renew_once(self) -> None:
        try:
            self._renew()
        except LeaseLost:
            self._lost = True
        except TryAgain as error:
            log.info("lease not renewed: %s", error)

    def _break_off(self) -> None:
        self.broken_off = True
        association = self._watched.association if self._watched else None
        if association is not None and association.is_established:
            association.abort()
            # Whoever waits for the peer's next word would go on to wait for its whole time-out.
            association.dimse.msg_queue.put((None, None))
