"""pynetdicom's upper layer state machine, which ends its association whatever happens in it.

pynetdicom 3.0.4 raises where an event does not fit the state (an abort of ours while the peer's connection is
being closed, for instance): the thread dies, its traceback goes to stderr, and the socket stays open until
its object is collected.
"""

from __future__ import annotations

import logging
from typing import Any

from pynetdicom.events import Event
from pynetdicom.fsm import StateMachine

log = logging.getLogger(__name__)


class EndingStateMachine(StateMachine):
    """Closes the connection where pynetdicom's own would let the thread die."""

    def do_action(self, event: str) -> None:
        """Executes the action that an event asks for, if it can be."""
        try:
            super().do_action(event)
        except Exception as error:  # noqa: BLE001 - the network's edge: no peer may leave a socket behind
            dul: Any = self.dul
            log.info("association with %s ended: %s", dul.assoc.remote.get("address", "?"), error)
            dul.assoc._kill = True
            dul.kill_dul()
            if dul.socket is not None:
                dul.socket.close()


def end_whatever_happens(event: Event) -> None:
    """A handler of EVT_CONN_OPEN, which comes before an association's threads are started."""
    dul = event.assoc.dul
    dul.state_machine = EndingStateMachine(dul)
