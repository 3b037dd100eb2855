"""The listener: a C-STORE SCP whose Success means that the bytes are safe.

pynetdicom speaks the protocol. The dataset is written as it arrives into the archive's own file system (its
chunked receive), so that taking it is a rename. No handler decodes a pixel.
"""

from __future__ import annotations

import logging
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from pydicom.uid import (
    JPEG2000,
    UID,
    AllTransferSyntaxes,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)
from pynetdicom import AE, AllStoragePresentationContexts, _config, evt
from pynetdicom.events import Event
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]
from pynetdicom.transport import ThreadedAssociationServer

from service.archive import Archive
from service.eligibility import RADIOGRAPHS, Eligibility
from service.errors import SettingsError
from service.metrics.processes import LOW_DISK, OTHER, REJECTIONS, ListenerMetrics
from service.records.database import Records
from service.records.forwarding import Forwarding
from service.records.intake import Receiver
from service.settings import Settings
from service.wire.association import send_at_once
from service.wire.storage import Storage

log = logging.getLogger(__name__)

COMPREHENSIVE_SR: Final = "1.2.840.10008.5.1.4.1.1.88.33"
COMPREHENSIVE_3D_SR: Final = "1.2.840.10008.5.1.4.1.1.88.34"
GRAYSCALE_PRESENTATION_STATE: Final = "1.2.840.10008.5.1.4.1.1.11.1"
OWN_RESULTS: Final = (COMPREHENSIVE_SR, COMPREHENSIVE_3D_SR, GRAYSCALE_PRESENTATION_STATE)
"""Classes of our own results: a PACS that routes everything sends them back, and must not fail on it."""

UNCOMPRESSED: Final = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
)
COMPRESSED: Final = (
    JPEGBaseline8Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    JPEG2000Lossless,
    JPEG2000,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    RLELossless,
)
"""What our decoders read. JPEG Extended is not among them: its usual 12 bits need a library under the GPL.
A sender whose offer is refused sends another syntax; one whose image cannot be read never learns of it."""

_GRACE_SECONDS: Final = 2.0
"""How long associations may go on when the listener stops."""

_REJECTED_TRANSIENT: Final = 0x02
_SOURCE_PRESENTATION: Final = 0x03
_REASON_LOCAL_LIMIT: Final = 0x02
"""A-ASSOCIATE-RJ: rejected-transient by the service provider, local limit exceeded (PS3.8 9.3.4)."""


class Listener:
    """A bound, running SCP."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._archive = Archive(settings.data_dir)
        self._records = Records.open(settings)
        self._storage = Storage(
            Receiver(self._records, self._archive, Eligibility.of(settings), Forwarding.of(settings)),
            settings.ae_title,
        )
        self._metrics = ListenerMetrics()
        self._server: ThreadedAssociationServer | None = None

    def start(self) -> None:
        """Binds the port and begins to answer, in threads of its own.

        Raises:
            SettingsError: If the port cannot be bound.
            OutOfResources: If the archive cannot be written.
        """
        self._archive.prepare()
        address = (self._settings.dicom_host, self._settings.dicom_port)
        try:
            self._server = _application_entity(self._settings).start_server(
                address,
                block=False,
                evt_handlers=[
                    (evt.EVT_CONN_OPEN, send_at_once),
                    (evt.EVT_REQUESTED, self._on_requested),
                    (evt.EVT_ACCEPTED, self._on_accepted),
                    (evt.EVT_REJECTED, self._on_rejected),
                    (evt.EVT_C_STORE, self._on_store),
                ],
            )
        except OSError as error:
            raise SettingsError(f"port {address[1]} on {address[0]}: {error.strerror}") from None
        log.info("listening as %s on port %d", self._settings.ae_title, self.port)

    @property
    def port(self) -> int:
        """The port that is bound, also where the settings said 0."""
        if self._server is None:
            raise RuntimeError("the listener has not been started")
        return int(self._server.server_address[1])

    def stop(self) -> None:
        """Closes the port, gives associations a moment to end by themselves, then ends them.

        A sender whose association is aborted has no answer to its last object, and sends it again.
        """
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()
            deadline = time.monotonic() + _GRACE_SECONDS
            while server.active_associations and time.monotonic() < deadline:
                time.sleep(0.05)
            for association in server.active_associations:
                association.abort()
        self._records.close()

    def _on_requested(self, event: Event) -> None:
        """Refuses images while the disk is nearly full, so that a modality keeps its queue (node.md 3.4)."""
        request: Any = event.assoc.requestor.primitive
        proposed = request.presentation_context_definition_list
        if all(context.abstract_syntax == Verification for context in proposed):
            return
        free = self._archive.free_bytes()
        if free >= self._settings.minimum_free_bytes:
            return
        log.error("association refused: %d bytes free, minimum %d", free, self._settings.minimum_free_bytes)
        self._metrics.rejected(LOW_DISK)
        event.assoc.acse.send_reject(_REJECTED_TRANSIENT, _SOURCE_PRESENTATION, _REASON_LOCAL_LIMIT)
        event.assoc.kill()

    def _on_accepted(self, event: Event) -> None:
        self._metrics.accepted(str(event.assoc.requestor.ae_title).strip())

    def _on_rejected(self, event: Event) -> None:
        answer: Any = event.assoc.acceptor.primitive
        reason = (answer.result, answer.result_source, answer.diagnostic)
        self._metrics.rejected(REJECTIONS.get(reason, OTHER))

    def _on_store(self, event: Event) -> int:
        size_bytes = _size_of(event.dataset_path)
        status = self._storage.on_store(event)
        self._metrics.answered(status, size_bytes)
        return status


def configure_process(settings: Settings) -> None:
    """Sets what pynetdicom and tempfile keep per process. Called once, in ``main``, before any listener."""
    archive = Archive(settings.data_dir)
    archive.prepare()
    _config.STORE_RECV_CHUNKED_DATASET = True
    _config.LOG_HANDLER_LEVEL = "none"
    # Query identifiers and the like would carry patients' names into the log.
    _config.LOG_REQUEST_IDENTIFIERS = False
    _config.LOG_RESPONSE_IDENTIFIERS = False
    # Chunked receive writes into tempfile's folder; only a rename within one file system is atomic.
    tempfile.tempdir = str(archive.incoming)


def _application_entity(settings: Settings) -> AE:
    entity = AE(ae_title=settings.ae_title)
    entity.maximum_associations = settings.maximum_associations
    entity.maximum_pdu_size = settings.maximum_pdu_bytes
    entity.acse_timeout = settings.acse_timeout_seconds
    entity.dimse_timeout = settings.dimse_timeout_seconds
    entity.network_timeout = settings.network_timeout_seconds
    entity.require_calling_aet = list(settings.calling_ae_titles)
    entity.add_supported_context(Verification)
    syntaxes = [*UNCOMPRESSED, *COMPRESSED]
    classes = [UID(uid) for uid in (*RADIOGRAPHS, *OWN_RESULTS)]
    if settings.accept_all_storage:
        classes = [UID(str(context.abstract_syntax)) for context in AllStoragePresentationContexts]
        syntaxes = list(AllTransferSyntaxes)
    for sop_class in classes:
        entity.add_supported_context(sop_class, syntaxes)
    return entity


def _size_of(path: Path | None) -> int:
    try:
        return path.stat().st_size if path is not None else 0
    except OSError:
        return 0
