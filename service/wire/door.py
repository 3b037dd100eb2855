"""The listener's door: who may come in, and how many, before an association costs anything.

pynetdicom gives each connection an association with two threads as soon as it is there, and counts it among
the associations at once. So a few dozen peers that connect and say nothing would keep everybody else out.
Here they wait in an antechamber, one thread for all of them, until they say something.
"""

from __future__ import annotations

import contextlib
import logging
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from socketserver import BaseServer
from typing import Any, Final

from pynetdicom.transport import ThreadedAssociationServer

log = logging.getLogger(__name__)

MOST_SILENT: Final = 256
"""Connections that have said nothing yet; where more come, the one that is silent for longest goes."""

LOCAL_LIMIT_EXCEEDED: Final = bytes((3, 0, 0, 0, 0, 4, 0, 2, 3, 2))
"""An A-ASSOCIATE-RJ PDU: transient, by the provider's presentation, local limit exceeded (PS3.8 9.3.4)."""

_WAKE: Final = b"!"
_LINGER_SECONDS: Final = 1.0
_TELL_EVERY_SECONDS: Final = 60.0
_READ_BYTES: Final = 1 << 16

Connection = tuple[socket.socket, Any]
"""A socket and the peer's address as ``accept`` gives it."""


class Antechamber:
    """Connections that have said nothing yet, looked after by one thread."""

    def __init__(self, say: Callable[[socket.socket, Any], None], silent_seconds: float) -> None:
        """Begins to look after them.

        Args:
            say: Takes a connection on whose peer has said something.
            silent_seconds: How long a peer may say nothing.
        """
        self._say = say
        self._silent_seconds = silent_seconds
        self._arrived: deque[Connection] = deque()
        self._waiting: dict[socket.socket, tuple[Any, float]] = {}
        self._sent_away, self._told_at = 0, -_TELL_EVERY_SECONDS
        self._selector = selectors.DefaultSelector()
        self._bell, self._door = socket.socketpair()
        self._selector.register(self._door, selectors.EVENT_READ)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="antechamber", daemon=True)
        self._thread.start()

    def admit(self, connection: socket.socket, address: Any) -> None:
        """Lets a connection wait."""
        self._arrived.append((connection, address))
        self._bell.send(_WAKE)

    def close(self) -> None:
        """Closes what still waits."""
        self._closed.set()
        self._bell.send(_WAKE)
        self._thread.join()

    def _run(self) -> None:
        while not self._closed.is_set():
            for key, _ in self._selector.select(self._until_next()):
                if key.fileobj is self._door:
                    self._door.recv(_READ_BYTES)
                    self._take_in()
                else:
                    self._hear(key.fileobj)
            self._send_away(time.monotonic() - self._silent_seconds)
        self._take_in()
        self._send_away(time.monotonic())
        self._selector.close()
        for end in (self._bell, self._door):
            end.close()

    def _hear(self, connection: Any) -> None:
        """Lets a peer in that has said something, and forgets one that has left."""
        if connection not in self._waiting:
            return  # sent away while the others were looked at
        address = self._forget(connection)
        if _has_left(connection):
            connection.close()
        else:
            self._say(connection, address)

    def _take_in(self) -> None:
        while self._arrived:
            connection, address = self._arrived.popleft()
            if len(self._waiting) >= MOST_SILENT:
                self._close(next(iter(self._waiting)))
            self._waiting[connection] = address, time.monotonic()
            self._selector.register(connection, selectors.EVENT_READ)

    def _forget(self, connection: socket.socket) -> Any:
        """Its address."""
        self._selector.unregister(connection)
        return self._waiting.pop(connection)[0]

    def _until_next(self) -> float | None:
        since = next((since for _, since in self._waiting.values()), None)
        return None if since is None else max(0.0, since + self._silent_seconds - time.monotonic())

    def _send_away(self, arrived_before: float) -> None:
        """Closes those that came before a moment; they are in the order in which they came."""
        while self._waiting:
            connection, (_, since) = next(iter(self._waiting.items()))
            if since > arrived_before:
                return
            self._close(connection)

    def _close(self, connection: socket.socket) -> None:
        """Sends a peer away that says nothing. Of many one is named: they must not fill the log."""
        address = self._forget(connection)
        connection.close()
        self._sent_away += 1
        now = time.monotonic()
        if now >= self._told_at + _TELL_EVERY_SECONDS:
            log.warning("sent away because they said nothing: %d, of late %s", self._sent_away, address[0])
            self._told_at, self._sent_away = now, 0


class Door(ThreadedAssociationServer):
    """pynetdicom's server behind an antechamber, with a limit for each address."""

    request_queue_size = 128
    """Connections that the kernel holds until they are accepted. Of more than pynetdicom's 5 at once, every
    other waits a second until it is tried again (TCP's first retransmission)."""

    def __init__(
        self,
        *arguments: Any,
        silent_seconds: float,
        associations_per_address: int,
        on_too_many: Callable[[], None],
        **options: Any,
    ) -> None:
        """Binds the port.

        Args:
            *arguments: As pynetdicom passes them.
            silent_seconds: How long a peer may say nothing.
            associations_per_address: How many one address may have at once.
            on_too_many: Told when one more is rejected.
            **options: As pynetdicom passes them.
        """
        super().__init__(*arguments, **options)
        self._per_address = associations_per_address
        self._on_too_many = on_too_many
        self._antechamber = Antechamber(self._come_in, silent_seconds)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Takes a connection that was just accepted; called where the next ones wait."""
        self._antechamber.admit(request, client_address)

    def shutdown(self) -> None:
        """Ends the server: no connection is accepted, those that say nothing are closed."""
        # pynetdicom's own would look for us among the servers that it has started itself.
        BaseServer.shutdown(self)
        self.server_close()
        self._antechamber.close()

    def _come_in(self, connection: socket.socket, address: Any) -> None:
        peer = address[0]
        requestors = [association.requestor.address_info for association in self.active_associations]
        of_peer = sum(requestor is not None and requestor.address == peer for requestor in requestors)
        if of_peer < self._per_address:
            super().process_request(connection, address)
            return
        log.warning("association from %s rejected: it has %d already", peer, of_peer)
        self._on_too_many()
        threading.Thread(target=_reject, args=(connection,), name="rejection", daemon=True).start()


def _has_left(connection: socket.socket) -> bool:
    try:
        return connection.recv(1, socket.MSG_PEEK) == b""
    except OSError:
        return True


def _reject(connection: socket.socket) -> None:
    """Rejects whatever was asked for. What has been sent is read first: else the answer would be lost."""
    with contextlib.suppress(OSError), connection:
        connection.settimeout(_LINGER_SECONDS)
        connection.recv(_READ_BYTES)
        connection.sendall(LOCAL_LIMIT_EXCEEDED)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(_READ_BYTES):
            pass
