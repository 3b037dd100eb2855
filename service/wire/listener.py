"""The listener: a C-STORE SCP whose Success means that the bytes are safe.

pynetdicom speaks the protocol. The dataset is written as it arrives into the archive's own file system (its
chunked receive), so that taking it is a rename. No handler decodes a pixel.
"""

from __future__ import annotations

import logging
import tempfile
import threading
import time
from functools import partial
from typing import Any, Final, cast

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

from service.archive import Archive
from service.eligibility import RADIOGRAPHS, Eligibility
from service.errors import SettingsError
from service.metrics.processes import LOW_DISK, OTHER, REJECTIONS, ListenerMetrics
from service.records.database import Records
from service.records.forwarding import Forwarding
from service.records.intake import Receiver
from service.rules.rulebook import Rulebook
from service.settings import Settings
from service.wire.association import send_at_once
from service.wire.door import Door
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

_CALLING_UNKNOWN: Final = (1, 1, 3)
_CALLED_UNKNOWN: Final = (1, 1, 7)
_LOCAL_LIMIT: Final = (2, 3, 2)
"""Result, source and diagnostic of an A-ASSOCIATE-RJ (PS3.8 9.3.4): an unknown caller, an unknown name of
ours, and a limit of ours, for now."""


class Listener:
    """A bound, running SCP."""

    def __init__(self, settings: Settings) -> None:
        """Opens what it writes into.

        Raises:
            SettingsError: If the hospital's own rules cannot be read.
        """
        forwarding = Forwarding.of(Rulebook(settings))
        self._settings = settings
        self._archive = Archive(settings.data_dir)
        self._records = Records.open(settings)
        self._metrics = ListenerMetrics()
        eligibility = Eligibility.of(settings)
        receiver = Receiver(self._records, self._archive, eligibility, forwarding)
        self._storage = Storage(receiver, settings.ae_title, self._metrics.storage)
        self._server: Door | None = None

    def start(self) -> None:
        """Binds the port and begins to answer, in threads of its own.

        Raises:
            SettingsError: If the port cannot be bound.
            OutOfResources: If the archive cannot be written.
        """
        self._archive.prepare()
        address = (self._settings.dicom_host, self._settings.dicom_port)
        try:
            self._server = self._open_door(address)
        except OSError as error:
            raise SettingsError(f"port {address[1]} on {address[0]}: {error.strerror}") from None
        threading.Thread(target=self._server.serve_forever, name="door", daemon=True).start()
        log.info("listening as %s on port %d", self._settings.ae_title, self.port)

    def _open_door(self, address: tuple[str, int]) -> Door:
        server: Any = _application_entity(self._settings).make_server(
            address,
            evt_handlers=[
                (evt.EVT_CONN_OPEN, send_at_once),
                (evt.EVT_REQUESTED, self._on_requested),
                (evt.EVT_ACCEPTED, self._on_accepted),
                (evt.EVT_REJECTED, self._on_rejected),
                (evt.EVT_C_STORE, self._storage.on_store),
            ],
            server_class=Door,
            silent_seconds=self._settings.acse_timeout_seconds,
            associations_per_address=self._settings.maximum_associations_per_address,
            on_too_many=partial(self._metrics.rejected, REJECTIONS[_LOCAL_LIMIT]),
        )
        return cast("Door", server)

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
            deadline = time.monotonic() + _GRACE_SECONDS
            while server.active_associations and time.monotonic() < deadline:
                time.sleep(0.05)
            for association in server.active_associations:
                association.abort()
        self._records.close()

    def _on_requested(self, event: Event) -> None:
        """Refuses who may not call; and images while the disk is nearly full: so a modality keeps them."""
        requestor: Any = event.assoc.requestor
        request, address = requestor.primitive, requestor.address_info.address
        if unknown := self._why_unknown(request, address):
            log.warning("association from %s rejected: %s", address, REJECTIONS[unknown])
            self._reject(event, unknown, REJECTIONS[unknown])
            return
        proposed = request.presentation_context_definition_list
        if all(context.abstract_syntax == Verification for context in proposed):
            return
        free = self._archive.free_bytes()
        if free >= self._settings.minimum_free_bytes:
            return
        log.error("association refused: %d bytes free, minimum %d", free, self._settings.minimum_free_bytes)
        self._reject(event, _LOCAL_LIMIT, LOW_DISK)

    def _why_unknown(self, request: Any, address: str) -> tuple[int, int, int] | None:
        """Why whoever calls us so from there may not: the three codes of an A-ASSOCIATE-RJ."""
        callers, called = self._settings.calling_ae_titles, self._settings.called_ae_titles
        calling = str(request.calling_ae_title).strip()
        if callers and not any(caller.admits(calling, address) for caller in callers):
            return _CALLING_UNKNOWN
        if called and str(request.called_ae_title).strip() not in called:
            return _CALLED_UNKNOWN
        return None

    def _reject(self, event: Event, codes: tuple[int, int, int], reason: str) -> None:
        self._metrics.rejected(reason)
        event.assoc.acse.send_reject(*codes)
        event.assoc.kill()

    def _on_accepted(self, event: Event) -> None:
        self._metrics.accepted(str(event.assoc.requestor.ae_title).strip())

    def _on_rejected(self, event: Event) -> None:
        answer: Any = event.assoc.acceptor.primitive
        reason = (answer.result, answer.result_source, answer.diagnostic)
        self._metrics.rejected(REJECTIONS.get(reason, OTHER))


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
    entity.add_supported_context(Verification)
    syntaxes = [*UNCOMPRESSED, *COMPRESSED]
    classes = [UID(uid) for uid in (*RADIOGRAPHS, *OWN_RESULTS)]
    if settings.accept_all_storage:
        classes = [UID(str(context.abstract_syntax)) for context in AllStoragePresentationContexts]
        syntaxes = list(AllTransferSyntaxes)
    for sop_class in classes:
        entity.add_supported_context(sop_class, syntaxes)
    return entity
