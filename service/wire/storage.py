"""The SCP's side of a C-STORE, whoever opened the association: Success means that the bytes are safe.

The listener takes what is sent to it, and what a PACS sends it for a C-MOVE; a C-GET brings images on our own
association. All of them are taken here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pynetdicom.association import Association
from pynetdicom.events import Event

from service.errors import CannotUnderstand, NodeError, OutOfResources, TooLarge
from service.metrics.processes import StorageMetrics
from service.received import Digest, FileMeta
from service.records.intake import Receiver
from service.records.states import Priority
from service.wire import statuses
from service.wire.transport import digest_of

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Arrived:
    """What a C-STORE has brought.

    Attributes:
        path: The file that its dataset was written into; ``None`` where none came.
        failure: Why the disk did not take it.
        digest: Gives the dataset's, where it is taken as it comes; it may not be done yet.
        meta: The file's meta information, where we have written it.
        moved_for: Who had it moved here, if anybody (Move Originator Application Entity Title).
        fetched: Whether it came on an association of ours.
    """

    path: Path | None
    failure: OSError | None
    digest: Callable[[], Digest | None]
    sop_class_uid: str
    sop_instance_uid: str
    calling_ae_title: str
    called_ae_title: str
    moved_for: str
    meta: FileMeta | None = None
    fetched: bool = False


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
        request: Any = event.request
        calling, called = titles(event.assoc)
        ours = event.assoc.is_requestor
        return self.take(
            Arrived(
                path=event.dataset_path,
                failure=request._dataset_file.failure if request._dataset_file is not None else None,
                digest=partial(digest_of, event),
                sop_class_uid=str(request.AffectedSOPClassUID),
                sop_instance_uid=str(request.AffectedSOPInstanceUID),
                calling_ae_title=calling,
                called_ae_title=self.ae_title if ours else called,
                moved_for=str(request.MoveOriginatorApplicationEntityTitle or "").strip(),
                fetched=bool(ours),
            )
        )

    def take(self, arrived: Arrived) -> int:
        """Takes what has come; the status of the reply is returned."""
        size_bytes = _size_of(arrived.path)
        status = self._status(arrived, size_bytes)
        self.metrics.answered(status, size_bytes)
        return status

    def _status(self, arrived: Arrived, size_bytes: int) -> int:
        # What we had moved to us is old, as what we fetched; all else is a patient of today (PS3.7 9.3.1.1).
        fetched = arrived.fetched or arrived.moved_for == self.ae_title
        try:
            if arrived.path is None:
                raise CannotUnderstand("the command came without a dataset")
            if arrived.failure is not None:
                raise OutOfResources(f"the archive: {arrived.failure.strerror}")
            if size_bytes > self.maximum_bytes:
                raise TooLarge(f"it has more than the {self.maximum_bytes} bytes of maximum_dataset_bytes")
            self.receiver.take(
                arrived.path,
                digest=arrived.digest,
                meta=arrived.meta,
                sop_class_uid=arrived.sop_class_uid,
                sop_instance_uid=arrived.sop_instance_uid,
                calling_ae_title=arrived.calling_ae_title,
                called_ae_title=arrived.called_ae_title,
                priority=Priority.BACKLOG if fetched else Priority.ROUTINE,
                fetched=fetched,
            )
        except NodeError as error:
            status = statuses.status_of(error)
            log.warning("refused %.66r with %04X: %s", arrived.sop_instance_uid, status, error)
            return status
        except Exception as error:  # the network's edge: the sender gets an answer, the node goes on
            log.exception("refused %.66r: unexpected fault", arrived.sop_instance_uid)
            return statuses.status_of(error)
        return statuses.SUCCESS


def titles(association: Association) -> tuple[str, str]:
    """Who sends on it, and whom they call; on an association of ours the latter is empty."""
    if association.is_requestor:
        return str(association.acceptor.ae_title).strip(), ""
    request: Any = association.requestor.primitive
    return str(association.requestor.ae_title).strip(), str(request.called_ae_title).strip()


def _size_of(path: Path | None) -> int:
    try:
        return path.stat().st_size if path is not None else 0
    except OSError:
        return 0
