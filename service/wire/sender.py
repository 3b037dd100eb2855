"""The sender: one association to one destination, many objects on it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from service.errors import CannotUnderstand, KindRefused, OutOfResources, PeerRefused, PeerUnavailable
from service.settings import Destination, Settings
from service.wire import statuses
from service.wire.listener import send_at_once

log = logging.getLogger(__name__)

_REJECTED_PERMANENT: Final = 0x01
_NO_REPLY: Final = "no reply: the connection was lost or timed out"


class Sender:
    """Opens associations as our application entity."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @contextmanager
    def associate(
        self, destination: Destination, contexts: Sequence[tuple[str, Sequence[str]]]
    ) -> Iterator[Connection]:
        """An association for objects of these (SOP class, transfer syntaxes).

        Raises:
            PeerUnavailable: If the destination does not answer, or rejects for now.
            KindRefused: If it takes none of these SOP classes.
            PeerRefused: If it rejects us for good (A-ASSOCIATE-RJ, rejected-permanent).
        """
        entity = AE(ae_title=self._settings.ae_title)
        entity.acse_timeout = self._settings.acse_timeout_seconds
        entity.dimse_timeout = self._settings.dimse_timeout_seconds
        entity.network_timeout = self._settings.network_timeout_seconds
        entity.connection_timeout = self._settings.connect_timeout_seconds
        for sop_class, syntaxes in contexts:
            entity.add_requested_context(UID(sop_class), [UID(syntax) for syntax in syntaxes])
        try:
            association = entity.associate(
                destination.host,
                destination.port,
                ae_title=destination.ae_title,
                evt_handlers=[(evt.EVT_CONN_OPEN, send_at_once)],
            )
        except (OSError, UnicodeError) as error:
            # pynetdicom resolves the name itself, and lets what comes of that through.
            raise PeerUnavailable(f"{destination}: the host's name is not known ({error})") from error
        if not association.is_established:
            raise _why_not(association, destination)
        try:
            yield Connection(association, destination)
        finally:
            if association.is_established:
                association.release()

    def echo(self, destination: Destination) -> None:
        """Asks whether a destination answers (C-ECHO).

        Raises:
            PeerUnavailable: If it does not.
            PeerRefused: If it does not want us.
        """
        with self.associate(destination, [(Verification, [ImplicitVRLittleEndian])]) as connection:
            connection.echo()


class Connection:
    """An established association."""

    def __init__(self, association: Association, destination: Destination) -> None:
        self._association = association
        self._destination = destination

    def store(self, path: Path) -> None:
        """Sends one Part 10 file.

        Raises:
            OutOfResources: If the file cannot be read just now.
            CannotUnderstand: If it is no DICOM file.
            PeerUnavailable: If the peer is gone, or refuses for now: the same object may be sent again.
            KindRefused: If the peer takes no object of this SOP class.
            PeerRefused: If the peer will not take this object.
        """
        if not self._association.is_established:
            raise PeerUnavailable(f"{self._destination}: the association is gone")
        dataset = _readable(path)
        try:
            reply = self._association.send_c_store(dataset)
        except ValueError as error:
            # pynetdicom: no accepted presentation context fits the object.
            raise KindRefused(f"{self._destination} does not take {dataset.SOPClassUID.name}") from error
        except RuntimeError as error:
            raise PeerUnavailable(f"{self._destination}: {error}") from error
        self._raise_for(_status(reply))

    def echo(self) -> None:
        """Sends a C-ECHO.

        Raises:
            PeerUnavailable: If no Success comes back.
        """
        status = _status(self._association.send_c_echo())
        if status != statuses.SUCCESS:
            raise PeerUnavailable(f"{self._destination}: {_NO_REPLY if status is None else f'{status:04X}'}")

    def _raise_for(self, status: int | None) -> None:
        if status is None:
            raise PeerUnavailable(f"{self._destination}: {_NO_REPLY}")
        if statuses.is_accepted(status):
            return
        if statuses.is_transient(status):
            raise PeerUnavailable(f"{self._destination} answered {status:04X}: not now")
        if status == statuses.SOP_CLASS_NOT_SUPPORTED:
            raise KindRefused(f"{self._destination} answered {status:04X}: refused, as all of its kind")
        raise PeerRefused(f"{self._destination} answered {status:04X}: refused")


def result_contexts(sop_classes: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Presentation contexts for our own objects; pynetdicom converts between the two encodings if it must."""
    return [(uid, [ExplicitVRLittleEndian, ImplicitVRLittleEndian]) for uid in dict.fromkeys(sop_classes)]


def _readable(path: Path) -> Dataset:
    try:
        return dcmread(path)
    except OSError as error:
        raise OutOfResources(f"{path.name} cannot be read: {error.strerror}") from error
    except InvalidDicomError as error:
        raise CannotUnderstand(f"{path.name} is no DICOM file") from error


def _status(reply: Any) -> int | None:
    return int(reply.Status) if "Status" in reply else None


def _why_not(association: Association, destination: Destination) -> PeerUnavailable | PeerRefused:
    if not association.is_rejected:
        if association.acceptor.primitive is not None and not association.accepted_contexts:
            return KindRefused(f"{destination} takes none of the objects offered")
        return PeerUnavailable(f"{destination} does not answer")
    primitive: Any = association.acceptor.primitive
    reason = f"{primitive.source_str}, {primitive.reason_str}".lower()
    if primitive.result == _REJECTED_PERMANENT:
        return PeerRefused(f"{destination} rejects our association: {reason}")
    return PeerUnavailable(f"{destination} rejects our association for now: {reason}")
