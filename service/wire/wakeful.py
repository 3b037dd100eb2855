"""An association that sleeps until something happens to it, and then goes on at once.

pynetdicom 3.0.4 gives an association two threads, each of which looks every millisecond whether there is
anything to do: every message waits for both, and a hundred idle associations look two hundred thousand
times a second. Here the thread at the socket sleeps until the peer sends or we do, and the association's own
until there is a message for it; and a C-STORE goes a way of its own (``lane``). Four places
of pynetdicom's are leant on: ``_is_transport_event``, ``_read_pdu_data``, ``send_pdu`` and the reactor's
checkpoint. With another version than those that this was tested with, an association stays as pynetdicom made
it.
"""

from __future__ import annotations

import logging
import queue
import select
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final

import pynetdicom
from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider

from service.wire.checkpoint import RestingPlace
from service.wire.lane import Lane
from service.wire.spool import drop_what_nobody_takes
from service.wire.storage import Arrived
from service.wire.transport import Transport

log = logging.getLogger(__name__)

TESTED_WITH: Final = frozenset({"3.0.4"})
"""Versions of pynetdicom whose threads may be put to sleep."""

_LOOKS_EVERY_SECONDS: Final = 0.1
"""Its timers are looked at so often: for an association's request, and for the network's silence."""

_PDUS_AT_ONCE: Final = 16
"""Of C-STOREs, before it is looked whether something else is to do, such as to end the association."""

_WAKE: Final = b"!"
_DATA_TRANSFER: Final = "Sta6"
"""The state in which an association is established (PS3.8 9.2.1)."""

_CLOSING: Final = "Sta13"
"""The state in which the connection is to be closed (PS3.8 9.2.1), which is not waited for."""


class WakefulProvider(DULServiceProvider):
    """pynetdicom's thread at the socket. It is made of one that has not been started yet."""

    _bell: socket.socket
    _ear: socket.socket
    _lane: Lane

    @classmethod
    def put_into(cls, association: Association, take: Callable[[Arrived], int]) -> None:
        """Lets an association that a peer has opened sleep; called before its threads are started.

        Args:
            association: The association.
            take: Takes what a C-STORE brings, and returns its status.
        """
        if pynetdicom.__version__ not in TESTED_WITH:
            return
        inner: Any = association
        provider = inner.dul
        provider.__class__ = cls
        provider._bell, provider._ear = socket.socketpair()
        provider._bell.setblocking(False)
        provider._run_loop_delay = 0.0
        provider._lane = Lane(association, take)
        resting_place = RestingPlace(association, _LOOKS_EVERY_SECONDS)
        inner._reactor_checkpoint = resting_place
        inner.dimse.msg_queue = _Telling(resting_place.ring)
        provider.to_user_queue = _Telling(resting_place.ring)
        provider._target = partial(_run, provider, provider._target)

    @property
    def _kill_thread(self) -> bool:
        return bool(self.__dict__.get("_kill_thread"))

    @_kill_thread.setter
    def _kill_thread(self, ends: bool) -> None:
        self.__dict__["_kill_thread"] = ends
        self._wake()

    def send_pdu(self, primitive: Any) -> None:
        """Sends a primitive at once."""
        super().send_pdu(primitive)
        self._wake()

    def _is_transport_event(self) -> bool:
        if self.event_queue.empty() and self.state_machine.current_state != _CLOSING:
            self._sleep()
        return super()._is_transport_event()

    def _read_pdu_data(self) -> None:
        for _ in range(_PDUS_AT_ONCE):
            if not self._passes_on():
                super()._read_pdu_data()
                return
            if not (self.socket and self.socket.ready):
                return

    def _passes_on(self) -> bool:
        """Whether what came was of a C-STORE that goes the short way."""
        return (
            self.state_machine.current_state == _DATA_TRANSFER
            and self.event_queue.empty()  # an event that waits is of what came before
            and self.to_provider_queue.empty()
            and isinstance(self.socket, Transport)
            and self._lane.pass_on(self.socket)
        )

    def _sleep(self) -> None:
        """Until the peer has sent something, or we have something to send; or for a moment."""
        connection = self.socket.socket if self.socket is not None else None
        if connection is None or connection.fileno() < 0 or self.socket.ready:  # type: ignore[union-attr]
            return
        poll = select.poll()
        poll.register(connection, select.POLLIN)
        poll.register(self._ear, select.POLLIN)
        if any(descriptor == self._ear.fileno() for descriptor, _ in poll.poll(1000 * _LOOKS_EVERY_SECONDS)):
            self._ear.recv(4096)

    def _wake(self) -> None:
        with suppress(OSError, AttributeError):  # it is awake, or has ended, or is being made
            self._bell.send(_WAKE)


class _Telling(queue.Queue[Any]):
    """A queue that says when something was put into it."""

    def __init__(self, tell: Callable[[], None]) -> None:
        super().__init__()
        self._tell = tell

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        super().put(item, block, timeout)
        self._tell()


def _run(provider: WakefulProvider, reactor: Callable[[], None]) -> None:
    """What the thread at the socket does."""
    try:
        reactor()
    finally:
        association: Any = provider.assoc
        provider._lane.drop()
        drop_what_nobody_takes(association)  # an error may have ended it before its connection
        provider._bell.close()
        provider._ear.close()
        association._reactor_checkpoint.ring()
