"""The listener's door: who may come in, and how many, before an association costs anything.

pynetdicom gives each connection an association with two threads as soon as it is there, and counts it among
the associations at once. So a few dozen peers that connect and say nothing would keep everybody else out.
Here they wait in an antechamber, one thread for all of them, until they say something.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from socketserver import BaseServer
from typing import Any, Final

from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from service.errors import SettingsError
from service.wire.antechamber import Antechamber
from service.wire.storage import Arrived
from service.wire.tls import AcceptorContext
from service.wire.transport import Limits, Transport
from service.wire.wakeful import WakefulProvider

log = logging.getLogger(__name__)

LOCAL_LIMIT_EXCEEDED: Final = bytes((3, 0, 0, 0, 0, 4, 0, 2, 3, 2))
"""An A-ASSOCIATE-RJ PDU: transient, by the provider's presentation, local limit exceeded (PS3.8 9.3.4)."""

_LINGER_SECONDS: Final = 1.0
_READ_BYTES: Final = 1 << 16


class Door(ThreadedAssociationServer):
    """pynetdicom's server behind an antechamber, with limits for each address and each association."""

    request_queue_size = 128
    """Connections that the kernel holds until they are accepted. Of more than pynetdicom's 5 at once, every
    other waits a second until it is tried again (TCP's first retransmission)."""

    def __init__(
        self,
        *arguments: Any,
        silent_seconds: float,
        associations_per_address: int,
        limits: Limits,
        take: Callable[[Arrived], int],
        on_too_many: Callable[[], None],
        on_no_tls: Callable[[], None],
        tls: AcceptorContext | None = None,
        shares_port: bool = False,
        **options: Any,
    ) -> None:
        """Binds the port.

        Args:
            *arguments: As pynetdicom passes them.
            silent_seconds: How long a peer may say nothing.
            associations_per_address: How many one address may have at once, by this door and any other.
            limits: What one association may take.
            take: Takes what a C-STORE brings, and returns its status.
            on_too_many: Told when one more is rejected.
            on_no_tls: Told when TLS with a peer has failed.
            tls: Where this is given, peers must speak TLS.
            shares_port: Whether other processes may listen on it, too.
            **options: As pynetdicom passes them.
        """
        self._shares_port = shares_port
        super().__init__(*arguments, **{**options, "request_handler": _Handler})
        self.contexts = _Unchanged(self.contexts)
        self.limits = limits
        self.take = take
        self._per_address = associations_per_address
        self._on_too_many = on_too_many
        self.digesting = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="digest")
        self._antechamber = Antechamber(self._come_in, silent_seconds, tls, on_no_tls)

    def server_bind(self) -> None:
        """Binds the port, alone or with others."""
        if self._shares_port and self.socket is not None:
            share(self.socket)
        super().server_bind()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Takes a connection that was just accepted; called where the next ones wait."""
        self._antechamber.admit(request, client_address)

    def shutdown(self) -> None:
        """Ends the server: no connection is accepted, those that say nothing are closed."""
        # pynetdicom's own would look for us among the servers that it has started itself.
        BaseServer.shutdown(self)
        self.server_close()
        self._antechamber.close()
        self.digesting.shutdown(wait=False)

    def _come_in(self, connection: socket.socket, address: Any) -> None:
        peer = address[0]
        accepted = [one for one in self.ae.active_associations if one.is_acceptor]
        requestors = [association.requestor.address_info for association in accepted]
        of_peer = sum(requestor is not None and requestor.address == peer for requestor in requestors)
        if of_peer < self._per_address:
            # Here and in no thread of its own: an association has two, and this only begins them.
            self.process_request_thread(connection, address)
            return
        log.warning("association from %s rejected: it has %d already", peer, of_peer)
        self._on_too_many()
        threading.Thread(target=_reject, args=(connection,), name="rejection", daemon=True).start()


def share(bound: socket.socket) -> None:
    """Lets other processes of this user bind the same port; called before it is bound.

    Raises:
        SettingsError: If this machine cannot do that.
    """
    option = getattr(socket, "SO_REUSEPORT", None)
    if option is None:
        raise SettingsError("listener_processes: this machine's ports cannot be shared (no SO_REUSEPORT)")
    bound.setsockopt(socket.SOL_SOCKET, option, 1)


class _Unchanged(list[PresentationContext]):
    """The presentation contexts that we take: pynetdicom copies each of them, to the last UID, for every
    association, and changes none."""

    def __deepcopy__(self, _memo: dict[int, Any]) -> list[PresentationContext]:
        """The same contexts in a list of their own."""
        return list(self)


class _Handler(RequestHandler):
    """Gives the association a socket that keeps to the limits."""

    server: Door

    def _create_association(self) -> Association:
        association = super()._create_association()
        # Both sockets say that the connection is there, and the association is to hear it once.
        association.dul.event_queue.get_nowait()
        association.dul.socket = Transport(
            association, self.request, self.server.limits, self.server.digesting
        )
        WakefulProvider.put_into(association, self.server.take)
        return association


def _reject(connection: socket.socket) -> None:
    """Rejects whatever was asked for. What has been sent is read first: else the answer would be lost."""
    with contextlib.suppress(OSError), connection:
        connection.settimeout(_LINGER_SECONDS)
        connection.recv(_READ_BYTES)
        connection.sendall(LOCAL_LIMIT_EXCEEDED)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(_READ_BYTES):
            pass
