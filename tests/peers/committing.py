"""A PACS that stores everything and answers requests for storage commitment as it is told."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from pydicom import Dataset
from pynetdicom import AE, AllStoragePresentationContexts, build_role, evt
from pynetdicom.events import Event

AE_TITLE: Final = "COMMITTING"
CLASS: Final = "1.2.840.10008.1.20.1"
INSTANCE: Final = "1.2.840.10008.1.20.1.1"


@dataclass
class CommittingPacs:
    """What it is told, and what came.

    Attributes:
        failing: The Failure Reason for everything in a transaction, one after the other, 0 for none; the last
            holds for good.
        at_once: Whether it reports on the association on which it was asked.
        status: Of its answers to N-ACTION.
        on_action: Called before each such answer.
        port: Its own.
        asked: What came by N-ACTION.
        stored: SOP Instance UIDs that came.
        answers: Statuses with which its reports on the same association were answered.
    """

    failing: Sequence[int] = (0,)
    at_once: bool = False
    status: int = 0
    on_action: Callable[[], None] = lambda: None
    port: int = 0
    asked: list[Dataset] = field(default_factory=list)
    stored: list[str] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)

    @property
    def destination(self) -> str:
        """How the node's settings name it."""
        return f"{AE_TITLE}@127.0.0.1:{self.port}"

    def report(self, number: int = -1) -> tuple[int, Dataset]:
        """The Event Type ID and Event Information for what was asked (PS3.4 J.3.3.1)."""
        request = self.asked[number]
        position = number if number >= 0 else len(self.asked) + number
        reason = self.failing[min(position, len(self.failing) - 1)]
        items = []
        for one in request.ReferencedSOPSequence:
            item = Dataset()
            item.ReferencedSOPClassUID = one.ReferencedSOPClassUID
            item.ReferencedSOPInstanceUID = one.ReferencedSOPInstanceUID
            if reason:
                item.FailureReason = reason
            items.append(item)
        information = Dataset()
        information.TransactionUID = request.TransactionUID
        setattr(information, "FailedSOPSequence" if reason else "ReferencedSOPSequence", items)
        return 2 if reason else 1, information

    def on_store(self, event: Event) -> int:
        self.stored.append(str(event.request.AffectedSOPInstanceUID))  # type: ignore[union-attr]
        return 0

    def on_n_action(self, event: Event) -> tuple[int, None]:
        self.on_action()
        self.asked.append(event.action_information)
        if self.at_once:
            threading.Thread(target=self._report_on, args=(event.assoc,)).start()
        return self.status, None

    def _report_on(self, association: Any) -> None:
        while association._is_paused:  # its answer is not out yet
            time.sleep(0.01)
        kind, information = self.report()
        reply, _ = association.send_n_event_report(information, kind, CLASS, INSTANCE)
        self.answers.append(int(reply.Status))


@contextmanager
def committing_pacs(**told: Any) -> Iterator[CommittingPacs]:
    """Runs one on a free port."""
    pacs = CommittingPacs(**told)
    entity = AE(ae_title=AE_TITLE)
    entity.supported_contexts = list(AllStoragePresentationContexts)
    entity.add_supported_context(CLASS)
    handlers: list[Any] = [(evt.EVT_C_STORE, pacs.on_store), (evt.EVT_N_ACTION, pacs.on_n_action)]
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    assert server is not None
    pacs.port = server.server_address[1]
    try:
        yield pacs
    finally:
        server.shutdown()
        server.server_close()


def report_to(
    port: int, kind: int, information: Dataset, *, ae_title: str = AE_TITLE, instance: str = INSTANCE
) -> int:
    """Reports on an association of its own, as SCP (PS3.7 D.3.3.4); returns the status that comes back."""
    entity = AE(ae_title=ae_title)
    entity.add_requested_context(CLASS)
    association = entity.associate("127.0.0.1", port, ext_neg=[build_role(CLASS, scp_role=True)])
    assert association.is_established
    (context,) = association.accepted_contexts
    assert (context.as_scu, context.as_scp) == (False, True)
    reply, _ = association.send_n_event_report(information, kind, CLASS, instance)
    association.release()
    return int(reply.Status)
