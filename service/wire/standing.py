"""Associations that outlast their use: the next results go on the one that is open, and none is waited for.

A peer may end it whenever it likes. Where the first object on it finds it gone, another one is opened and the
object is sent once more: the same bytes under the same UID, of which a peer that has them makes nothing new.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

from pynetdicom.association import Association

from service.peers import Destination
from service.settings import Settings
from service.wire import tls
from service.wire.association import Contexts, associated
from service.wire.sender import Connection

log = logging.getLogger(__name__)

_MOST_CONTEXTS: Final = 128
"""On one association: their ids are odd numbers of a byte (PS3.8 9.3.2.2)."""


class StandingAssociations:
    """One process's: one a destination at most. Make it after a fork, never before."""

    def __init__(self, settings: Settings) -> None:
        """Args:
        settings: Our AE title, time-outs and TLS, and for how long an association is kept.
        """
        self._settings = settings
        # pynetdicom aborts an association on which nothing comes for as long as the network's time-out.
        self._rest_seconds = min(settings.keep_association_seconds, settings.network_timeout_seconds / 2)
        self._lines: dict[str, _Line] = {}
        self._lock = threading.Lock()

    @contextmanager
    def associate(self, destination: Destination, contexts: Contexts) -> Iterator[Connection]:
        """The association that stands, or another one, for objects of these (SOP class, transfer syntaxes).

        It is kept where the block ends in order. Whoever comes while it is in use gets one of their own.

        Raises:
            PeerUnavailable: If the destination does not answer, or rejects for now.
            KindRefused: If it takes none of these SOP classes.
            PeerRefused: If it rejects us for good (A-ASSOCIATE-RJ, rejected-permanent).
        """
        stands = self._take(destination)
        if stands is not None and stands.serves(contexts):
            line, connection = stands, Connection(stands.association, destination, stands.open_again)
        else:
            if stands is not None:
                stands.end()
                contexts = _joined(contexts, stands.contexts)
            line = _Line(self._settings, destination, contexts)
            connection = Connection(line.association, destination)
        try:
            yield connection
        except BaseException:
            line.end()
            raise
        self._keep(line)

    def close(self) -> None:
        """Releases them all."""
        with self._lock:
            lines, self._lines = list(self._lines.values()), {}
        for line in lines:
            line.end()

    def _take(self, destination: Destination) -> _Line | None:
        with self._lock:
            return self._lines.pop(destination.address, None)

    def _keep(self, line: _Line) -> None:
        address = line.destination.address
        with self._lock:
            kept = self._rest_seconds > 0 and line.association.is_established and address not in self._lines
            if kept:
                line.rest(self._rest_seconds, self._let_go)
                self._lines[address] = line
        if not kept:
            line.end()

    def _let_go(self, line: _Line) -> None:
        """It has not been used for a while."""
        with self._lock:
            if self._lines.get(line.destination.address) is not line:
                return
            del self._lines[line.destination.address]
        line.end()


class _Line:
    """An association with a destination, and what it was opened for."""

    def __init__(self, settings: Settings, destination: Destination, contexts: Contexts) -> None:
        self.destination = destination
        self.contexts = contexts
        self._settings = settings
        self._end = ExitStack()
        self._timer: threading.Timer | None = None
        self.association = self._open()

    def _open(self) -> Association:
        self._files = self._signature()  # before they are read
        return self._end.enter_context(associated(self._settings, self.destination, self.contexts))

    def open_again(self) -> Association:
        """Another one in its place.

        Raises:
            PeerUnavailable, KindRefused, PeerRefused: As ``associated`` does.
        """
        self.end()
        log.info("%s has ended the association that was kept; another one is opened", self.destination)
        self.association = self._open()
        return self.association

    def serves(self, contexts: Contexts) -> bool:
        """Whether it stands, the peer has accepted all of these on it, and our certificates are the same."""
        self._stop_timer()
        accepted = [
            (one.abstract_syntax, syntax)
            for one in self.association.accepted_contexts
            for syntax in one.transfer_syntax
        ]
        return (
            self.association.is_established
            and self._files == self._signature()
            and all(
                any((sop_class, syntax) in accepted for syntax in syntaxes)
                for sop_class, syntaxes in contexts
            )
        )

    def rest(self, seconds: float, let_go: Callable[[_Line], None]) -> None:
        """Has it let go after so many seconds, unless it is used before."""
        self._timer = threading.Timer(seconds, let_go, (self,))
        self._timer.daemon = True
        self._timer.start()

    def end(self) -> None:
        """Releases it, where it stands."""
        self._stop_timer()
        self._end.close()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _signature(self) -> tls.Signature:
        return tls.requestor_signature(self._settings) if self.destination.tls else ()


def _joined(contexts: Contexts, others: Contexts) -> Contexts:
    """What is asked for now, and what was before: so that the next ones need not open another."""
    both = {(sop_class, tuple(syntaxes)): None for sop_class, syntaxes in (*contexts, *others)}
    return list(both) if len(both) <= _MOST_CONTEXTS else contexts
