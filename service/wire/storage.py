"""The SCP's side of a C-STORE, whoever opened the association: Success means that the bytes are safe.

The listener takes what is sent to it, and what a PACS sends it for a C-MOVE; a C-GET brings images on our own
association. All of them are taken here.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pynetdicom.events import Event

from service.errors import CannotUnderstand, NodeError
from service.records.intake import Receiver
from service.records.tables import Priority
from service.wire import statuses

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Storage:
    """Takes objects into the node.

    Attributes:
        receiver: Where to.
        ae_title: Ours, by which what we have moved to us is known.
    """

    receiver: Receiver
    ae_title: str

    def on_store(self, event: Event) -> int:
        """Answers a C-STORE with its status; the process must have been set up by ``configure_process``."""
        request: Any = event.request
        sop_instance_uid = str(request.AffectedSOPInstanceUID)
        path: Path | None = event.dataset_path
        association, fetched = event.assoc, self._is_fetched(event)
        peer = association.acceptor if association.is_requestor else association.requestor
        try:
            if path is None:
                raise CannotUnderstand("the command came without a dataset")
            self.receiver.take(
                path,
                sop_class_uid=str(request.AffectedSOPClassUID),
                sop_instance_uid=sop_instance_uid,
                calling_ae_title=str(peer.ae_title).strip(),
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

    def _is_fetched(self, event: Event) -> bool:
        """Whether we fetched it, or had it moved to us, so it is old; all else is a patient of today
        (PS3.7 9.3.1.1)."""
        request: Any = event.request
        moved_for = str(request.MoveOriginatorApplicationEntityTitle or "").strip()
        return bool(event.assoc.is_requestor) or moved_for == self.ae_title
