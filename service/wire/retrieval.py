"""The retrieve SCU: C-MOVE to our own listener, or C-GET on our own association (PS3.4 C.4.2, C.4.3)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Any, Final

from pydicom import Dataset
from pynetdicom.association import Association

from service.eligibility import RADIOGRAPHS
from service.errors import NodeError, NotSetUp, PeerFailed
from service.peers import Destination
from service.settings import Settings
from service.wire import statuses
from service.wire.association import NO_REPLY, associated, status_in
from service.wire.listener import COMPRESSED, UNCOMPRESSED
from service.wire.query import ENCODINGS
from service.wire.storage import Storage

MOVE: Final = "1.2.840.10008.5.1.4.1.2.2.2"
GET: Final = "1.2.840.10008.5.1.4.1.2.2.3"
"""Study Root Query/Retrieve Information Model - MOVE, and - GET."""

GET_CONTEXTS: Final = [
    (sop_class, syntaxes)
    for sop_class in RADIOGRAPHS
    # A peer sends an image as it has it only where its syntax has a context of its own.
    for syntaxes in (UNCOMPRESSED, *((syntax,) for syntax in COMPRESSED))
]
"""What a C-GET may bring: the classes that the node reads, in the transfer syntaxes that it decodes."""


class Method(StrEnum):
    """How images are retrieved."""

    MOVE = "move"
    GET = "get"


class Retrieval:
    """An association on which series are retrieved, one after the other.

    Attributes:
        association: For whoever has to break it off from another thread.
    """

    def __init__(self, association: Association, peer: Destination, move_to: str | None) -> None:
        self.association = association
        self._peer = peer
        self._move_to = move_to

    def series(self, study_instance_uid: str, series_instance_uid: str) -> NodeError | None:
        """Retrieves a series; what the peer complained of in the end is returned, None where it did not.

        What came is in the records by then. That all of it came is not said: a peer counts by its own lights.

        Raises:
            PeerFailed: If the peer is lost on the way.
            NotSetUp: If it does not offer this.
        """
        if not self.association.is_established:
            raise PeerFailed(f"{self._peer}: the association is gone")
        identifier = Dataset()
        identifier.QueryRetrieveLevel = "SERIES"
        identifier.StudyInstanceUID = study_instance_uid
        identifier.SeriesInstanceUID = series_instance_uid
        for reply, _ in self._request(identifier):
            status = status_in(reply)
            if status is None:
                raise PeerFailed(f"{self._peer}: {NO_REPLY}")
            if not statuses.is_pending(status):
                return self._error(status, reply)
        raise PeerFailed(f"{self._peer}: {NO_REPLY}")

    def _request(self, identifier: Dataset) -> Iterator[tuple[Dataset, Dataset | None]]:
        try:
            if self._move_to is None:
                return self.association.send_c_get(identifier, GET)
            return self.association.send_c_move(identifier, self._move_to, MOVE)
        except ValueError as error:
            # pynetdicom: the service's own presentation context was not accepted, others were.
            raise NotSetUp(f"{self._peer} offers no {self._verb}") from error
        except RuntimeError as error:
            raise PeerFailed(f"{self._peer}: {error}") from error

    @property
    def _verb(self) -> str:
        return "C-GET" if self._move_to is None else f"C-MOVE to {self._move_to}"

    def _error(self, status: int, reply: Any) -> NodeError | None:
        error = statuses.error_of_retrieve(status)
        if error is None:
            return None
        failed = reply.get("NumberOfFailedSuboperations")
        counted = f", {failed} of its objects failed" if failed else ""
        return error(f"{self._peer} answered a {self._verb} with {status:04X}{counted}")


@contextmanager
def retrieving(
    settings: Settings, peer: Destination, method: Method, storage: Storage
) -> Iterator[Retrieval]:
    """An association for retrieving.

    Raises:
        PeerUnavailable: If the peer does not answer, or rejects for now.
        NotSetUp: If it rejects us for good, or does not do this.
    """
    moves = method is Method.MOVE
    with associated(
        settings,
        peer,
        [(MOVE if moves else GET, ENCODINGS)],
        to_receive=() if moves else GET_CONTEXTS,
        on_store=None if moves else storage.on_store,
        reply_timeout_seconds=settings.retrieval_timeout_seconds,
        refused=NotSetUp,
    ) as association:
        yield Retrieval(association, peer, settings.ae_title if moves else None)
