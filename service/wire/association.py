"""Opening an association as our application entity, and saying why it could not be opened."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

from pydicom.uid import UID
from pynetdicom import AE, build_role, evt
from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider
from pynetdicom.events import Event
from pynetdicom.pdu_primitives import A_ASSOCIATE

from service.errors import KindRefused, NoTls, PeerRefused, PeerUnavailable, SettingsError
from service.peers import Destination
from service.settings import Settings
from service.wire import tls
from service.wire.checkpoint import stand_while_we_ask
from service.wire.ending import end_at_once
from service.wire.spool import drop_at_the_end
from service.wire.tls import Identity, RequestorContext

Contexts = Sequence[tuple[str, Sequence[str]]]
"""SOP classes with transfer syntaxes, a presentation context each."""

NO_REPLY: Final = "no reply: the connection was lost or timed out"

_REJECTED_PERMANENT: Final = 0x01
_PDU_BYTES: Final = 16382
"""What we announce where nothing but replies comes in; pynetdicom's own default."""


@contextmanager
def associated(
    settings: Settings,
    peer: Destination,
    contexts: Contexts,
    *,
    to_receive: Contexts = (),
    on_store: Callable[[Event], int] | None = None,
    on_report: Callable[[Event], tuple[int, None]] | None = None,
    reply_timeout_seconds: float | None = None,
    refused: type[PeerRefused] | None = None,
    to_ourselves: bool = False,
) -> Iterator[Association]:
    """An established association, released at the end of the block.

    Args:
        settings: Our AE title and time-outs.
        peer: Whom to call.
        contexts: What we ask of the peer, as SCU.
        to_receive: What the peer may store to us on this association, where we take the SCP's role
            (PS3.7 D.3.3.4).
        on_store: Takes what it stores, and answers a status.
        on_report: Takes what it reports of events (N-EVENT-REPORT), and answers a status.
        reply_timeout_seconds: Wait for a DIMSE reply; ``dimse_timeout_seconds`` where it is None.
        refused: What is raised in the place of the two refusals.
        to_ourselves: Whether the peer is our own listener: by TLS, its certificate is ours.

    Raises:
        NoTls: If the peer is called by TLS, and there is none with it.
        PeerUnavailable: If the peer does not answer, or rejects for now.
        KindRefused: If it takes none of these SOP classes.
        PeerRefused: If it rejects us for good (A-ASSOCIATE-RJ, rejected-permanent).
    """
    entity = _application_entity(settings, (*contexts, *to_receive), reply_timeout_seconds)
    context = _context(settings, peer, to_ourselves)
    with _ended_if_interrupted(entity):
        try:
            association = entity.associate(
                peer.host,
                peer.port,
                ae_title=peer.ae_title,
                max_pdu=settings.maximum_pdu_bytes if to_receive else _PDU_BYTES,
                ext_neg=[build_role(UID(uid), scp_role=True) for uid in {uid: None for uid, _ in to_receive}],
                tls_args=(context, peer.host) if context else None,
                evt_handlers=_handlers(on_store, on_report),
            )
        except (OSError, UnicodeError) as error:
            # pynetdicom resolves the name itself, and lets what comes of that through.
            raise PeerUnavailable(f"{peer}: the host's name is not known ({error})") from error
        if not association.is_established:
            why_not = _why_not(association, peer, context)
            raise refused(str(why_not)) if refused and isinstance(why_not, PeerRefused) else why_not
        try:
            # Interrupted here, perhaps in the middle of a message, it is not released: it has ended.
            with _ended_if_interrupted(entity):
                yield association
        finally:
            _release(association)


def rejection_of(association: Association) -> A_ASSOCIATE | None:
    """What a peer has rejected an association with (A-ASSOCIATE-RJ), if it has.

    pynetdicom 3.0.4 looks whether the connection was made when it may have been closed already: then a
    rejection that came at once passes for a connection that was not made, and waits unread.
    """
    if association.is_rejected:
        return association.acceptor.primitive
    unread = list(association.dul.to_user_queue.queue)
    return next((one for one in unread if isinstance(one, A_ASSOCIATE) and one.result), None)


def send_at_once(event: Event) -> None:
    """Without TCP_NODELAY every small reply waits some 40 ms for the peer's delayed acknowledgement."""
    transport: Any = event.assoc.dul.socket
    if transport is not None and transport.socket is not None:
        transport.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def status_in(reply: Any) -> int | None:
    """The status of a reply; None where there was no reply."""
    return int(reply.Status) if "Status" in reply else None


def answered(peer: Destination, reply: Any) -> int:
    """The status of a peer's reply.

    Raises:
        PeerUnavailable: If there was none.
    """
    status = status_in(reply)
    if status is None:
        raise PeerUnavailable(f"{peer}: {NO_REPLY}")
    return status


def _release(association: Association) -> None:
    """Releases it, unless it has ended."""
    with suppress(RuntimeError):  # the peer ended it just now
        association.release()


@contextmanager
def _ended_if_interrupted(entity: AE) -> Iterator[None]:
    """At Ctrl-C what the entity has begun is ended, at once: pynetdicom 3.0.4 leaves a thread behind a call
    that is interrupted, and Python waits for it before the process may end."""
    try:
        yield
    except KeyboardInterrupt:
        for thread in threading.enumerate():
            if isinstance(thread, DULServiceProvider) and thread.assoc.ae is entity:
                end_at_once(thread.assoc)
        raise


def _application_entity(settings: Settings, contexts: Contexts, reply_timeout_seconds: float | None) -> AE:
    entity = AE(ae_title=settings.ae_title)
    entity.acse_timeout = settings.acse_timeout_seconds
    entity.dimse_timeout = reply_timeout_seconds or settings.dimse_timeout_seconds
    entity.network_timeout = settings.network_timeout_seconds
    entity.connection_timeout = settings.connect_timeout_seconds
    for sop_class, syntaxes in contexts:
        entity.add_requested_context(UID(sop_class), [UID(syntax) for syntax in syntaxes])
    return entity


def _handlers(
    on_store: Callable[[Event], int] | None, on_report: Callable[[Event], tuple[int, None]] | None
) -> list[Any]:
    handlers: list[Any] = [(evt.EVT_CONN_OPEN, send_at_once), (evt.EVT_CONN_OPEN, stand_while_we_ask)]
    if on_store is not None:
        handlers += [(evt.EVT_C_STORE, on_store), (evt.EVT_CONN_CLOSE, drop_at_the_end)]
    if on_report is not None:
        handlers.append((evt.EVT_N_EVENT_REPORT, on_report))
    return handlers


def _context(settings: Settings, peer: Destination, to_ourselves: bool) -> RequestorContext | None:
    """For TLS with the peer; None where it is called without."""
    if not peer.tls:
        return None
    try:
        identity = Identity.of(settings)
        if to_ourselves and identity:
            return tls.trusting_ourselves(identity)
        return tls.requestor_context(settings)
    except SettingsError as error:
        raise NoTls(f"{peer}: no TLS: {error}") from error


def _why_not(
    association: Association, peer: Destination, context: RequestorContext | None
) -> PeerUnavailable | PeerRefused:
    if context is not None and context.failure is not None:
        return NoTls(f"{peer}: no TLS: {tls.words(context.failure)}")
    rejection: Any = rejection_of(association)
    if rejection is None:
        if association.acceptor.primitive is not None and not association.accepted_contexts:
            return KindRefused(f"{peer} takes none of the objects offered")
        return PeerUnavailable(f"{peer} does not answer")
    reason = f"{rejection.source_str}, {rejection.reason_str}".lower()
    if rejection.result == _REJECTED_PERMANENT:
        return PeerRefused(f"{peer} rejects our association: {reason}")
    return PeerUnavailable(f"{peer} rejects our association for now: {reason}")
