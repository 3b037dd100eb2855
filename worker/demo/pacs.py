"""A receiving "PACS" for the demonstration: it keeps what it is sent, and remembers when it came."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.events import Event
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from service.peers import Destination
from service.wire.association import send_at_once
from service.wire.listener import OWN_RESULTS
from service.wire.statuses import SUCCESS


@dataclass(frozen=True, slots=True)
class ReceivedResult:
    """One object that came back.

    Attributes:
        at_seconds: When it was on disk, on ``time.monotonic``'s clock.
    """

    path: Path
    at_seconds: float


@dataclass
class DemoPACS:
    """A storage SCP on a free port of this machine, keeping results under one folder."""

    folder: Path
    results: dict[str, list[ReceivedResult]] = field(default_factory=dict)
    """By Study Instance UID."""

    def __post_init__(self) -> None:
        self._changed = threading.Condition()

    def __enter__(self) -> DemoPACS:
        self.folder.mkdir(parents=True, exist_ok=True)
        entity = AE(ae_title="DEMOPACS")
        entity.add_supported_context(Verification)
        for sop_class in OWN_RESULTS:
            entity.add_supported_context(sop_class, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
        server: Any = entity.start_server(
            ("127.0.0.1", 0),
            block=False,
            evt_handlers=[(evt.EVT_CONN_OPEN, send_at_once), (evt.EVT_C_STORE, self._on_store)],
        )
        self._server = server
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def destination(self) -> Destination:
        """How the node reaches it."""
        return Destination(ae_title="DEMOPACS", host="127.0.0.1", port=self._server.server_address[1])

    def wait_for_change(self, seconds: float) -> None:
        """Returns when another result has come, or after ``seconds``."""
        with self._changed:
            self._changed.wait(seconds)

    def _on_store(self, event: Event) -> int:
        request: Any = event.request
        path = self.folder / f"{request.AffectedSOPInstanceUID}.dcm"
        path.write_bytes(event.encoded_dataset())
        study = str(event.dataset.StudyInstanceUID)
        with self._changed:
            self.results.setdefault(study, []).append(ReceivedResult(path, time.monotonic()))
            self._changed.notify_all()
        return SUCCESS
