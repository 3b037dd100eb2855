"""An association that ends with its threads and its socket, whatever happens in it.

pynetdicom 3.0.4 raises where an event does not fit the upper layer's state (an abort of ours while the peer's
connection is being closed), and where a request is wrong in a way that it does not foresee (a presentation
context without a transfer syntax): the thread dies, its traceback goes to stderr, and the socket, or the
other thread of the association, stays.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from pynetdicom.events import Event
from pynetdicom.fsm import StateMachine

from service.errors import in_words

log = logging.getLogger(__name__)


class EndingStateMachine(StateMachine):
    """Closes the connection where pynetdicom's own would let the thread die."""

    def do_action(self, event: str) -> None:
        """Executes the action that an event asks for, if it can be."""
        try:
            super().do_action(event)
        except Exception as error:  # noqa: BLE001 - the network's edge: no peer may leave a socket behind
            _end(self.dul.assoc, error)


def end_whatever_happens(event: Event) -> None:
    """A handler of EVT_CONN_OPEN, which comes before an association's threads are started."""
    association: Any = event.assoc
    association.dul.state_machine = EndingStateMachine(association.dul)
    association._target = partial(_run, association, association._target)


def _run(association: Any, reactor: Callable[[], None]) -> None:
    """What the association's own thread does."""
    try:
        reactor()
    except Exception as error:  # noqa: BLE001 - the same edge
        _end(association, error)


def end_at_once(association: Any) -> None:
    """Ends its threads and its socket, whatever it is about to do and without a word to the peer."""
    association._kill, association.is_established = True, False
    association._reactor_checkpoint.set()
    association.dul.kill_dul()
    if association.dul.socket is not None:
        association.dul.socket.close()


def _end(association: Any, error: Exception) -> None:
    log.warning("association of %s ended: %s", association.requestor.address_info.address, in_words(error))
    end_at_once(association)
