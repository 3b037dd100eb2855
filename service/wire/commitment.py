"""The Storage Commitment Push Model as SCU (PS3.4 J.3): asking, and taking what a peer reports.

A peer reports on the association on which it was asked, or on one that it opens to our listener, where it
takes the SCP's role (J.3.3.1).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.association import Association
from pynetdicom.events import Event

from litegpt.attributes import UNDECODABLE, text
from service.errors import CannotUnderstand, KindRefused, NodeError, NotThere, PeerUnavailable
from service.peers import Destination
from service.records import commitments
from service.records.commitments import Report, Transaction
from service.records.database import Records
from service.records.retry import Retry
from service.settings import Settings
from service.wire import statuses
from service.wire.association import answered, associated

log = logging.getLogger(__name__)

STORAGE_COMMITMENT: Final = "1.2.840.10008.1.20.1"
"""Storage Commitment Push Model SOP Class."""

WELL_KNOWN_INSTANCE: Final = "1.2.840.10008.1.20.1.1"
"""The one SOP Instance that is asked (J.3.5)."""

ENCODINGS: Final = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)

REPORT_SECONDS: Final = 3.0
"""How long a report is waited for on the association on which was asked; most come on another one."""

_LOOK_EVERY_SECONDS: Final = 0.1
REQUEST: Final = 1
"""Action Type ID of Request Storage Commitment (J.3.2.1)."""

_EVENTS: Final = (1, 2)
"""Event Type IDs: all committed, and failures exist (J.3.3.1)."""

NO_SUCH_INSTANCE: Final = 0x0112
NO_SUCH_EVENT: Final = 0x0113
INVALID_ARGUMENT: Final = 0x0115
PROCESSING_FAILURE: Final = 0x0110
_NOT_OFFERED: Final = (0x0118, 0x0122)
"""No such SOP class, SOP class not supported (PS3.7 C.5)."""


@dataclass(frozen=True, slots=True)
class Reports:
    """Takes reports into the records."""

    records: Records
    retry: Retry

    def on_report(self, event: Event) -> tuple[int, None]:
        """Answers an N-EVENT-REPORT with its status (PS3.7 10.1.1.1.8)."""
        association = event.assoc
        peer = association.acceptor if association.is_requestor else association.requestor
        return self._take(event, str(peer.ae_title).strip()), None

    def _take(self, event: Event, ae_title: str) -> int:
        request: Any = event.request
        if request.AffectedSOPInstanceUID != WELL_KNOWN_INSTANCE:
            return NO_SUCH_INSTANCE
        if request.EventTypeID not in _EVENTS:
            return NO_SUCH_EVENT
        try:
            report = report_in(event.event_information)
            commitments.take(self.records, report, ae_title, self.retry)
        except (NotThere, CannotUnderstand) as error:
            log.warning("storage commitment: report of %.16r refused: %s", ae_title, error)
            return INVALID_ARGUMENT
        except NodeError as error:
            log.error("storage commitment: report of %.16r not taken: %s", ae_title, error)
            return PROCESSING_FAILURE
        except Exception:  # the network's edge: the peer gets an answer, the node goes on
            log.exception("storage commitment: report of %.16r not taken", ae_title)
            return PROCESSING_FAILURE
        log.info(
            "storage commitment: %s commits to %d objects, not to %d, in transaction %s",
            ae_title,
            len(report.committed),
            len(report.failed),
            report.transaction_uid,
        )
        return statuses.SUCCESS


class Inquiry:
    """An association on which a peer is asked."""

    def __init__(self, association: Association, peer: Destination, records: Records) -> None:
        self._association = association
        self._peer = peer
        self._records = records

    def ask(self, transaction: Transaction) -> None:
        """Asks for commitment, and gives the peer a moment to report at once.

        Raises:
            PeerUnavailable: If it does not answer, or not now.
            KindRefused: If it does not offer storage commitment.
        """
        if not self._association.is_established:
            raise PeerUnavailable(f"{self._peer}: the association is gone")
        try:
            reply, _ = self._association.send_n_action(
                request_of(transaction), REQUEST, STORAGE_COMMITMENT, WELL_KNOWN_INSTANCE
            )
        except (RuntimeError, ValueError) as error:
            raise PeerUnavailable(f"{self._peer}: {error}") from error
        status = answered(self._peer, reply)
        if status in _NOT_OFFERED:
            raise KindRefused(f"{self._peer} answered {status:04X}: it offers no storage commitment")
        if not (status == statuses.SUCCESS or statuses.is_warning(status)):
            raise PeerUnavailable(f"{self._peer} answered a request for commitment with {status:04X}")
        self._await_report(transaction)

    def _await_report(self, transaction: Transaction) -> None:
        deadline = time.monotonic() + REPORT_SECONDS
        while self._association.is_established and time.monotonic() < deadline:
            if commitments.is_answered(self._records, transaction.uid):
                return
            time.sleep(_LOOK_EVERY_SECONDS)


@contextmanager
def asking(settings: Settings, peer: Destination, reports: Reports) -> Iterator[Inquiry]:
    """An association for asking.

    Raises:
        PeerUnavailable: If the peer does not answer, or rejects for now.
        KindRefused: If it does not offer storage commitment.
        PeerRefused: If it rejects us for good.
    """
    contexts = [(STORAGE_COMMITMENT, ENCODINGS)]
    with associated(settings, peer, contexts, on_report=reports.on_report) as association:
        yield Inquiry(association, peer, reports.records)


def request_of(transaction: Transaction) -> Dataset:
    """The Action Information (J.3.2.1.1)."""
    request = Dataset()
    request.TransactionUID = transaction.uid
    request.ReferencedSOPSequence = [reference_to(*uids) for uids in transaction.objects]
    return request


def reference_to(sop_class_uid: str, sop_instance_uid: str) -> Dataset:
    """An item that names an object."""
    item = Dataset()
    item.ReferencedSOPClassUID = sop_class_uid
    item.ReferencedSOPInstanceUID = sop_instance_uid
    return item


def report_in(information: Dataset) -> Report:
    """The Event Information (J.3.3.1.1).

    Raises:
        CannotUnderstand: If it has no Transaction UID, or cannot be read.
    """
    try:
        uid = text(information, "TransactionUID")
        failed = {
            text(item, "ReferencedSOPInstanceUID"): int(item.get("FailureReason") or PROCESSING_FAILURE)
            for item in items_of(information, "FailedSOPSequence")
        }
        items = items_of(information, "ReferencedSOPSequence")
        committed = frozenset(text(item, "ReferencedSOPInstanceUID") for item in items)
    except UNDECODABLE as error:
        raise CannotUnderstand(f"a report that cannot be read: {type(error).__name__}") from error
    if not uid:
        raise CannotUnderstand("a report without Transaction UID")
    return Report(uid, committed, failed)


def items_of(dataset: Dataset, keyword: str) -> Iterable[Dataset]:
    """The items of a sequence, none where it is absent."""
    return dataset.get(keyword) or ()
