"""The Storage Commitment Push Model as SCP, for modalities (PS3.4 J.3): taking requests, and reporting.

A request is answered at once, by its N-ACTION's status, and reported on later, on an association that we open
to the modality's listed address, where we take the SCP's role.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydicom import Dataset
from pynetdicom.events import Event

from litegpt.attributes import UNDECODABLE, text
from service.errors import CannotUnderstand, NodeError, PeerRefused, PeerUnavailable, TooLarge
from service.peers import Destination
from service.records import safekeeping
from service.records.database import Records
from service.records.safekeeping import Judged
from service.settings import Settings
from service.wire import statuses
from service.wire.association import answered, associated
from service.wire.commitment import (
    ENCODINGS,
    INVALID_ARGUMENT,
    NO_SUCH_INSTANCE,
    PROCESSING_FAILURE,
    REQUEST,
    STORAGE_COMMITMENT,
    WELL_KNOWN_INSTANCE,
    items_of,
    reference_to,
)

log = logging.getLogger(__name__)

MAXIMUM_OBJECTS: Final = 10_000
"""More in one request are refused."""

NO_SUCH_ACTION: Final = 0x0123
NOT_AUTHORIZED: Final = 0x0124
RESOURCE_LIMITATION: Final = 0x0213
"""PS3.7 10.1.4.1.10."""

_ALL, _SOME_FAILED = 1, 2
"""Event Type IDs (J.3.3.1)."""


@dataclass(frozen=True, slots=True)
class Requests:
    """Takes requests into the records.

    Attributes:
        modalities: The AE titles of those that may ask, since a report reaches them.
    """

    records: Records
    modalities: frozenset[str]

    def on_action(self, event: Event) -> tuple[int, None]:
        """Answers an N-ACTION with its status (PS3.7 10.1.4.1.10)."""
        return self._take(event, str(event.assoc.requestor.ae_title).strip()), None

    def _take(self, event: Event, ae_title: str) -> int:
        request: Any = event.request
        if ae_title not in self.modalities:
            log.warning(
                "storage commitment: request of %.16r refused: not in commitment_reports_to", ae_title
            )
            return NOT_AUTHORIZED
        if request.RequestedSOPInstanceUID != WELL_KNOWN_INSTANCE:
            return NO_SUCH_INSTANCE
        if request.ActionTypeID != REQUEST:
            return NO_SUCH_ACTION
        try:
            uid, objects = request_in(event.action_information)
            safekeeping.take(self.records, ae_title, uid, objects)
        except CannotUnderstand as error:
            log.warning("storage commitment: request of %.16r refused: %s", ae_title, error)
            return INVALID_ARGUMENT
        except TooLarge as error:
            log.warning("storage commitment: request of %.16r refused: %s", ae_title, error)
            return RESOURCE_LIMITATION
        except NodeError as error:
            log.error("storage commitment: request of %.16r not taken: %s", ae_title, error)
            return PROCESSING_FAILURE
        except Exception:  # the network's edge: the modality gets an answer, the node goes on
            log.exception("storage commitment: request of %.16r not taken", ae_title)
            return PROCESSING_FAILURE
        log.info("storage commitment: %s asks for %d objects in transaction %s", ae_title, len(objects), uid)
        return statuses.SUCCESS


def request_in(information: Dataset) -> tuple[str, list[Judged]]:
    """The Action Information (J.3.2.1.1): Transaction UID and objects, not judged yet.

    Raises:
        CannotUnderstand: If one of them is missing or cannot be read.
        TooLarge: If there are too many objects.
    """
    try:
        uid = text(information, "TransactionUID")
        objects = [
            Judged(text(item, "ReferencedSOPClassUID"), text(item, "ReferencedSOPInstanceUID"))
            for item in items_of(information, "ReferencedSOPSequence")
        ]
    except UNDECODABLE as error:
        raise CannotUnderstand(f"a request that cannot be read: {type(error).__name__}") from error
    names = [uid, *(name for one in objects for name in (one.sop_class_uid, one.sop_instance_uid))]
    if not objects or not all(0 < len(name) <= 64 for name in names):
        raise CannotUnderstand("a request without Transaction UID, or without the UIDs of objects")
    if len(objects) > MAXIMUM_OBJECTS:
        raise TooLarge(f"{len(objects)} objects in one request")
    return uid, list(dict.fromkeys(objects))


def report(
    settings: Settings, modality: Destination, transaction_uid: str, objects: Sequence[Judged]
) -> None:
    """Tells a modality what is kept of what it asked for.

    Raises:
        PeerUnavailable: If it does not answer, or not now.
        PeerRefused: If it does not want to know.
    """
    information = information_of(transaction_uid, objects)
    kind = _SOME_FAILED if any(one.failure for one in objects) else _ALL
    as_scp = [(STORAGE_COMMITMENT, ENCODINGS)]
    with associated(settings, modality, (), to_receive=as_scp) as association:
        try:
            reply, _ = association.send_n_event_report(
                information, kind, STORAGE_COMMITMENT, WELL_KNOWN_INSTANCE
            )
        except (RuntimeError, ValueError) as error:
            raise PeerUnavailable(f"{modality}: {error}") from error
        status = answered(modality, reply)
        if statuses.is_transient(status):
            raise PeerUnavailable(f"{modality} answered a report with {status:04X}: not now")
        if not statuses.is_accepted(status):
            raise PeerRefused(f"{modality} answered a report with {status:04X}")


def information_of(transaction_uid: str, objects: Sequence[Judged]) -> Dataset:
    """The Event Information (J.3.3.1.1)."""
    information = Dataset()
    information.TransactionUID = transaction_uid
    kept = [_item(one) for one in objects if not one.failure]
    failed = [_item(one) for one in objects if one.failure]
    if kept:
        information.ReferencedSOPSequence = kept
    if failed:
        information.FailedSOPSequence = failed
    return information


def _item(one: Judged) -> Dataset:
    item = reference_to(one.sop_class_uid, one.sop_instance_uid)
    if one.failure:
        item.FailureReason = one.failure
    return item
