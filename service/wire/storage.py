"""The SCP's side of a C-STORE, whoever opened the association: Success means that the bytes are safe.

The listener takes what is sent to it, and what a PACS sends it for a C-MOVE; a C-GET brings images on our own
association. All of them are taken here.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pynetdicom.association import Association
from pynetdicom.events import Event

from service.errors import CannotUnderstand, NodeError, OutOfResources, TooLarge
from service.metrics.processes import StorageMetrics
from service.records.intake import Receiver
from service.records.states import Priority
from service.wire import statuses
from service.wire.transport import digest_of

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Storage:
    """Takes objects into the node.

    Attributes:
        receiver: Where to.
        ae_title: Ours, by which what we have moved to us is known.
        metrics: Where it is counted.
        maximum_bytes: The largest file that is taken.
    """

    receiver: Receiver
    ae_title: str
    metrics: StorageMetrics
    maximum_bytes: int

    def on_store(self, event: Event) -> int:
        """Answers a C-STORE with its status; the process must have been set up by ``configure_process``."""
        size_bytes = _size_of(event.dataset_path)
        status = self._take(event, size_bytes)
        self.metrics.answered(status, size_bytes)
        return status

    def _take(self, event: Event, size_bytes: int) -> int:
        request: Any = event.request
        sop_instance_uid = str(request.AffectedSOPInstanceUID)
        path: Path | None = event.dataset_path
        calling, called = self._ae_titles(event.assoc)
        fetched = self._is_fetched(event)
        try:
            if path is None:
                raise CannotUnderstand("the command came without a dataset")
            if (spool := request._dataset_file) is not None and spool.failure is not None:
                raise OutOfResources(f"the archive: {spool.failure.strerror}")
            if size_bytes > self.maximum_bytes:
                raise TooLarge(f"it has more than the {self.maximum_bytes} bytes of maximum_dataset_bytes")
            self.receiver.take(
                path,
                digest=digest_of(event),
                sop_class_uid=str(request.AffectedSOPClassUID),
                sop_instance_uid=sop_instance_uid,
                calling_ae_title=calling,
                called_ae_title=called,
                priority=Priority.BACKLOG if fetched else Priority.ROUTINE,
                fetched=fetched,
            )
        except NodeError as error:
            status = statuses.status_of(error)
            log.warning("refused %.66r with %04X: %s", sop_instance_uid, status, error)
            return status
        except Exception as error:  # the network's edge: the sender gets an answer, the node goes on
            log.exception("refused %.66r: unexpected fault", sop_instance_uid)
            return statuses.status_of(error)
        return statuses.SUCCESS

    def _ae_titles(self, association: Association) -> tuple[str, str]:
        """Who sends, and whom they call; on an association of ours that is us."""
        if association.is_requestor:
            return str(association.acceptor.ae_title).strip(), self.ae_title
        request: Any = association.requestor.primitive
        return str(association.requestor.ae_title).strip(), str(request.called_ae_title).strip()

    def _is_fetched(self, event: Event) -> bool:
        """Whether we fetched it, or had it moved to us, so it is old; all else is a patient of today
        (PS3.7 9.3.1.1)."""
        request: Any = event.request
        moved_for = str(request.MoveOriginatorApplicationEntityTitle or "").strip()
        return bool(event.assoc.is_requestor) or moved_for == self.ae_title


def _size_of(path: Path | None) -> int:
    try:
        return path.stat().st_size if path is not None else 0
    except OSError:
        return 0
