"""Where pynetdicom's reactor thread stands while an operation of ours waits for its replies.

pynetdicom 3.0.4 has an event and a flag for that, and a reactor that was let go a moment before may pass them
both: then it takes a reply for a message that nobody asked for, and drops it. A C-STORE waits for its status
in vain; a C-FIND answers less than there is, without a word. Here, whoever closes the checkpoint goes on only
when the reactor stands at it.

Nor does pynetdicom look again at whether there still is a peer: one that ends the association while an object
is being encoded for it is waited for until the time-out, and so is everybody who waits for the sender. Here,
the operation fails at once, and the word that the connection has ended is not used up by who reads it first.
"""

from __future__ import annotations

import threading
import time
from queue import Queue
from typing import Any, Final

from pynetdicom.association import Association
from pynetdicom.events import Event

_LOOKS_EVERY_SECONDS: Final = 0.05
_ENDED: Final = (None, None)
"""What pynetdicom's upper layer puts among the messages when the connection has ended, once."""


def stand_while_we_ask(event: Event) -> None:
    """A handler of EVT_CONN_OPEN, which comes before anything is received on an association of ours."""
    association: Any = event.assoc
    association._reactor_checkpoint = Checkpoint(association)
    association.dimse.msg_queue = Messages()


class Messages(Queue[Any]):
    """What the peer has sent; once it has ended, whoever takes a message is told so."""

    def _get(self) -> Any:
        message = super()._get()
        if message == _ENDED:
            self._put(message)
        return message


class Checkpoint:
    """Stands in for the ``threading.Event`` of one association."""

    def __init__(self, association: Association) -> None:
        self._association = association
        self._changed = threading.Condition()
        self._is_open = True
        self._reactor_stands_here = False

    def wait(self) -> None:
        """Called by the reactor, each time round."""
        with self._changed:
            self._reactor_stands_here = True
            self._changed.notify_all()
            self._stand()
            self._reactor_stands_here = False

    def _stand(self) -> None:
        self._changed.wait_for(lambda: self._is_open)

    def clear(self) -> None:
        """Called by whoever begins an operation; returns when the reactor stands still.

        Raises:
            RuntimeError: If the association has ended, as pynetdicom's own operations do.
        """
        with self._changed:
            self._is_open = False
            while not self._reactor_stands_here and self._reactor_runs_beside_us():
                self._changed.wait(_LOOKS_EVERY_SECONDS)
        if not self._association.is_established:
            raise RuntimeError("the association has ended")

    def set(self) -> None:
        """Called when the operation has ended."""
        with self._changed:
            self._is_open = True
            self._changed.notify_all()

    def _reactor_runs_beside_us(self) -> bool:
        return self._association.is_alive() and threading.current_thread() is not self._association


class RestingPlace(Checkpoint):
    """A checkpoint at which the reactor stays while there is nothing to do for it.

    Each time round, pynetdicom's reactor looks for a message, for a primitive of the peer's, at its timers.
    """

    def __init__(self, association: Association, at_most_seconds: float) -> None:
        super().__init__(association)
        self._at_most_seconds = at_most_seconds

    def ring(self) -> None:
        """Says that there may be something to do."""
        with self._changed:
            self._changed.notify_all()

    def _stand(self) -> None:
        until = time.monotonic() + self._at_most_seconds
        while not self._is_open or (self._nothing_to_do() and time.monotonic() < until):
            self._changed.wait(max(0.0, until - time.monotonic()) if self._is_open else None)

    def _nothing_to_do(self) -> bool:
        association: Any = self._association
        waiting = association.dimse.msg_queue.queue or association.dul.to_user_queue.queue
        return not waiting and association.dul.is_alive() and not association._kill
