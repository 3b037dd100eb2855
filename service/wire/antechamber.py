"""Connections that have said nothing yet, all looked after by one thread; where there is TLS, it begins here.

pynetdicom would shake hands where it accepts connections, and one peer that does not answer would keep all
others out. Here nobody is waited for: each handshake goes on when its peer has said the next thing.
"""

from __future__ import annotations

import logging
import selectors
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from service.wire.tls import AcceptorContext, words

log = logging.getLogger(__name__)

MOST_SILENT: Final = 256
"""Connections that have said nothing yet; where more come, the one that is silent for longest goes."""

_WAKE: Final = b"!"
_TELL_EVERY_SECONDS: Final = 60.0
_READ_BYTES: Final = 1 << 16

Connection = tuple[socket.socket, Any]
"""A socket and the peer's address as ``accept`` gives it."""


class Antechamber:
    """Where connections wait until their peer has said something, by TLS where there is TLS."""

    def __init__(
        self,
        say: Callable[[socket.socket, Any], None],
        silent_seconds: float,
        tls: AcceptorContext | None = None,
        on_no_tls: Callable[[], None] = lambda: None,
    ) -> None:
        """Begins to look after them.

        Args:
            say: Takes a connection on whose peer has said something.
            silent_seconds: How long a peer may say nothing, or go on shaking hands.
            tls: Where this is given, peers must speak TLS.
            on_no_tls: Told of each that does not, or not as it must.
        """
        self._say = say
        self._silent_seconds = silent_seconds
        self._tls, self._on_no_tls = tls, on_no_tls
        self._arrived: deque[Connection] = deque()
        self._waiting: dict[socket.socket, tuple[Any, float]] = {}
        self._shaking_hands: set[socket.socket] = set()
        self._silent = _Seldom("sent away because they said nothing")
        self._refused = _Seldom("refused because of TLS")
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
                elif key.fileobj in self._waiting:  # not sent away while the others were looked at
                    self._attend(key.fileobj)
            self._send_away(time.monotonic() - self._silent_seconds)
        self._take_in()
        self._send_away(time.monotonic())
        self._selector.close()
        for end in (self._bell, self._door):
            end.close()

    def _take_in(self) -> None:
        while self._arrived:
            connection, address = self._arrived.popleft()
            if len(self._waiting) >= MOST_SILENT:
                self._close(next(iter(self._waiting)))
            if self._tls is not None:
                try:
                    connection = _secured(connection, self._tls.current())
                except OSError:  # it has left
                    connection.close()
                    continue
                self._shaking_hands.add(connection)
            self._waiting[connection] = address, time.monotonic()
            self._selector.register(connection, selectors.EVENT_READ)

    def _attend(self, connection: Any) -> None:
        try:
            self._hear(connection)
        except Exception:  # the network's edge: others still want to come in
            log.exception("a connection is given up")
            if connection in self._waiting:
                self._forget(connection)
            connection.close()

    def _hear(self, connection: Any) -> None:
        """Lets a peer in that has said something, and forgets one that has left."""
        if connection in self._shaking_hands:
            self._shake_hands(connection)
            return
        address = self._forget(connection)
        if _has_left(connection):
            connection.close()
        else:
            connection.setblocking(True)
            self._say(connection, address)

    def _shake_hands(self, connection: ssl.SSLSocket) -> None:
        """Goes on with a handshake. When it is done the peer still has to say what it wants."""
        try:
            connection.do_handshake()
        except ssl.SSLWantReadError:
            self._selector.modify(connection, selectors.EVENT_READ)
        except ssl.SSLWantWriteError:
            self._selector.modify(connection, selectors.EVENT_WRITE)
        except (ssl.SSLEOFError, ConnectionError):
            self._forget(connection)
            connection.close()
        except OSError as error:
            self._refused.tell(self._forget(connection), words(error))
            self._on_no_tls()
            connection.close()
        else:
            self._shaking_hands.discard(connection)
            self._selector.modify(connection, selectors.EVENT_READ)
            if connection.pending():  # what the selector does not see
                self._hear(connection)

    def _forget(self, connection: socket.socket) -> Any:
        """Its address."""
        self._selector.unregister(connection)
        self._shaking_hands.discard(connection)
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
        """Sends a peer away that says nothing."""
        self._silent.tell(self._forget(connection))
        connection.close()


class _Seldom:
    """Logs how many, and names one of many: strangers must not fill the log."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._number, self._told_at = 0, -_TELL_EVERY_SECONDS

    def tell(self, address: Any, why: str = "") -> None:
        self._number += 1
        now = time.monotonic()
        if now >= self._told_at + _TELL_EVERY_SECONDS:
            of_late = f"{address[0]}: {why}" if why else address[0]
            log.warning("%s: %d, of late %s", self._what, self._number, of_late)
            self._told_at, self._number = now, 0


def _secured(connection: socket.socket, context: ssl.SSLContext) -> ssl.SSLSocket:
    """The connection under TLS, of which nothing has been said yet."""
    connection.setblocking(False)
    return context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)


def _has_left(connection: socket.socket) -> bool:
    if isinstance(connection, ssl.SSLSocket):
        return False  # what came cannot be looked at without taking it
    try:
        return connection.recv(1, socket.MSG_PEEK) == b""
    except OSError:
        return True
