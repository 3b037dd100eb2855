"""Where pynetdicom's reactor thread stands while an operation of ours waits for its replies.

pynetdicom 3.0.4 has an event and a flag for that, and a reactor that was let go a moment before may pass them
both: then it takes a reply for a message that nobody asked for, and drops it. A C-STORE waits for its status
in vain; a C-FIND answers less than there is, without a word. Here, whoever closes the checkpoint goes on only
when the reactor stands at it.
"""

from __future__ import annotations

import threading
from typing import Any, Final

from pynetdicom.association import Association

_LOOKS_EVERY_SECONDS: Final = 0.05


class Checkpoint:
    """Stands in for the ``threading.Event`` of one association."""

    def __init__(self, association: Association) -> None:
        self._association = association
        self._changed = threading.Condition()
        self._is_open = True
        self._reactor_stands_here = False

    @classmethod
    def put_into(cls, association: Association) -> None:
        """Replaces pynetdicom's own."""
        inner: Any = association
        inner._reactor_checkpoint = cls(association)

    def wait(self) -> None:
        """Called by the reactor, each time round."""
        with self._changed:
            self._reactor_stands_here = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._is_open)
            self._reactor_stands_here = False

    def clear(self) -> None:
        """Called by whoever begins an operation; returns when the reactor stands still, or has ended."""
        with self._changed:
            self._is_open = False
            while not self._reactor_stands_here and self._reactor_runs_beside_us():
                self._changed.wait(_LOOKS_EVERY_SECONDS)

    def set(self) -> None:
        """Called when the operation has ended."""
        with self._changed:
            self._is_open = True
            self._changed.notify_all()

    def _reactor_runs_beside_us(self) -> bool:
        return self._association.is_alive() and threading.current_thread() is not self._association
