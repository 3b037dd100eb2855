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

from service.archive import Archive
from service.eligibility import RADIOGRAPHS, Eligibility
from service.errors import NoRoom, OutOfResources, SettingsError
from service.metrics.processes import ARCHIVE_AWAY, LOW_DISK, NO_TLS, OTHER, REJECTIONS, ListenerMetrics
from service.peers import Destination
from service.records.database import Records
from service.records.forwarding import Forwarding
from service.records.intake import Receiver
from service.records.retry import Retry
from service.rules.rulebook import Rulebook
from service.settings import Settings
from service.wire.association import send_at_once
from service.wire.commitment import ENCODINGS, STORAGE_COMMITMENT, Reports
from service.wire.door import Door
from service.wire.ending import end_whatever_happens
from service.wire.safekeeping import Requests
from service.wire.spool import Spool, drop_at_the_end
from service.wire.storage import Storage
from service.wire.timers import count_on_the_monotonic_clock
from service.wire.tls import AcceptorContext, Identity
from service.wire.transport import Limits, assign, measure
from service.wire.users import Users

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

_BRINGS_NO_IMAGE: Final = frozenset({Verification, UID(STORAGE_COMMITMENT)})
"""Classes for which there is room on a full disk."""

_GRACE_SECONDS: Final = 2.0
"""How long associations may go on when the listener stops."""

_CALLING_UNKNOWN: Final = (1, 1, 3)
_CALLED_UNKNOWN: Final = (1, 1, 7)
_USER_UNKNOWN: Final = (1, 2, 1)
_LOCAL_LIMIT: Final = (2, 3, 2)
"""Result, source and diagnostic of an A-ASSOCIATE-RJ (PS3.8 9.3.4): an unknown caller, an unknown name of
ours, an unknown user (PS3.7 D.3.3.7), and a limit of ours, for now."""


class Listener:
    """A bound, running SCP."""

    def __init__(self, settings: Settings, *, shares_port: bool = False) -> None:
        """Opens what it writes into.

        Args:
            settings: The node's.
            shares_port: Whether other processes may listen on the same ports.

        Raises:
            SettingsError: If the hospital's own rules cannot be read.
        """
        forwarding = Forwarding.of(Rulebook(settings))
        self._settings, self._shares_port = settings, shares_port
        self._archive = Archive(settings.data_dir)
        self._records = Records.open(settings, for_a_caller=True)
        self._metrics = ListenerMetrics()
        eligibility = Eligibility.of(settings)
        receiver = Receiver(
            self._records,
            self._archive,
            eligibility,
            forwarding,
            maximum_instances=settings.maximum_instances_per_study,
        )
        self._storage = Storage(
            receiver, settings.ae_title, self._metrics.storage, settings.maximum_dataset_bytes
        )
        self._reports = Reports(self._records, Retry.of(settings))
        self._requests = Requests(self._records, settings.commits_to)
        self._users = Users(settings.dicom_users_file) if settings.dicom_users_file else None
        self._plain: Door | None = None
        self._tls: Door | None = None

    def start(self) -> None:
        """Binds the ports and begins to answer, in threads of its own.

        Raises:
            SettingsError: If a port cannot be bound, or a file of TLS or of users is not what it should be.
            OutOfResources: If the archive cannot be written.
        """
        self._archive.prepare()
        if self._users is not None:
            self._users.read()
        settings = self._settings
        # One entity: its limit of associations counts those of both doors.
        entity = _application_entity(settings)
        try:
            if settings.dicom_tls_port is not None and (identity := Identity.of(settings)):
                self._tls = self._open_door(entity, settings.dicom_tls_port, AcceptorContext(identity))
            if settings.dicom_port is not None:
                self._plain = self._open_door(entity, settings.dicom_port)
        except SettingsError:
            self.stop()
            raise

    def _open_door(self, entity: AE, port: int, tls: AcceptorContext | None = None) -> Door:
        host = self._settings.dicom_host
        try:
            door: Any = entity.make_server(
                (host, port),
                evt_handlers=self._handlers(),
                server_class=Door,
                shares_port=self._shares_port,
                silent_seconds=self._settings.acse_timeout_seconds,
                associations_per_address=self._settings.maximum_associations_per_address,
                limits=Limits.of(self._settings),
                take=self._storage.take,
                on_too_many=partial(self._metrics.rejected, REJECTIONS[_LOCAL_LIMIT]),
                on_no_tls=partial(self._metrics.rejected, NO_TLS),
                tls=tls,
            )
        except OSError as error:
            raise SettingsError(f"port {port} on {host}: {error.strerror}") from None
        threading.Thread(target=door.serve_forever, name="door", daemon=True).start()
        with_tls = ", by TLS" if tls else ""
        log.info("listening as %s on port %d%s", self._settings.ae_title, door.server_address[1], with_tls)
        opened: Door = door
        return opened

    def _handlers(self) -> list[Any]:
        return [
            (evt.EVT_CONN_OPEN, send_at_once),
            (evt.EVT_CONN_OPEN, end_whatever_happens),
            (evt.EVT_CONN_CLOSE, drop_at_the_end),
            (evt.EVT_PDU_RECV, measure),
            (evt.EVT_DIMSE_RECV, assign),
            (evt.EVT_REQUESTED, self._on_requested),
            (evt.EVT_ACCEPTED, self._on_accepted),
            (evt.EVT_REJECTED, self._on_rejected),
            (evt.EVT_C_STORE, self._storage.on_store),
            (evt.EVT_N_EVENT_REPORT, self._reports.on_report),
            (evt.EVT_N_ACTION, self._requests.on_action),
        ]

    @property
    def port(self) -> int:
        """The port of plain DICOM that is bound, also where the settings said 0.

        Raises:
            RuntimeError: If there is none.
        """
        return _port_of(self._plain)

    @property
    def tls_port(self) -> int:
        """That of TLS, likewise."""
        return _port_of(self._tls)

    @property
    def ports(self) -> dict[str, int]:
        """Those that are bound, by the names of their settings."""
        doors = {"dicom_port": self._plain, "dicom_tls_port": self._tls}
        return {name: _port_of(door) for name, door in doors.items() if door is not None}

    def stop(self) -> None:
        """Closes the ports, gives associations a moment to end by themselves, then ends them.

        A sender whose association is aborted has no answer to its last object, and sends it again.
        """
        doors = [door for door in (self._plain, self._tls) if door is not None]
        self._plain = self._tls = None
        for door in doors:
            door.shutdown()
        deadline = time.monotonic() + _GRACE_SECONDS
        while any(door.active_associations for door in doors) and time.monotonic() < deadline:
            time.sleep(0.05)
        for association in (one for door in doors for one in door.active_associations):
            association.abort()
        self._records.close()

    def _on_requested(self, event: Event) -> None:
        """Refuses who may not call; and images while the archive takes none: so a modality keeps them."""
        requestor: Any = event.assoc.requestor
        request, address = requestor.primitive, requestor.address_info.address
        if unknown := self._why_unknown(event, request, address):
            log.warning("association from %s rejected: %s", address, REJECTIONS[unknown])
            self._reject(event, unknown, REJECTIONS[unknown])
            return
        proposed = request.presentation_context_definition_list
        if all(context.abstract_syntax in _BRINGS_NO_IMAGE for context in proposed):
            return
        try:
            self._archive.require_room(self._settings.minimum_free_bytes)
        except OutOfResources as error:
            log.error("association refused: %s", error)
            self._reject(event, _LOCAL_LIMIT, LOW_DISK if isinstance(error, NoRoom) else ARCHIVE_AWAY)

    def _why_unknown(self, event: Event, request: Any, address: str) -> tuple[int, int, int] | None:
        """Why whoever calls us so from there may not: the three codes of an A-ASSOCIATE-RJ."""
        callers, called = self._settings.calling_ae_titles, self._settings.called_ae_titles
        calling = str(request.calling_ae_title).strip()
        if callers and not any(caller.admits(calling, address) for caller in callers):
            return _CALLING_UNKNOWN
        if called and str(request.called_ae_title).strip() not in called:
            return _CALLED_UNKNOWN
        if self._users is not None and not self._users.admit(event.assoc):
            return _USER_UNKNOWN
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


def ourselves(settings: Settings, port: int, *, tls: bool = False) -> Destination:
    """The listener as a peer, as seen from this machine; a ``Sender`` calls it ``to_ourselves``."""
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(
        settings.dicom_host, settings.dicom_host
    )
    return Destination(ae_title=settings.ae_title, host=host, port=port, tls=tls)


def _port_of(door: Door | None) -> int:
    if door is None:
        raise RuntimeError("the listener has not been started there")
    return int(door.server_address[1])


def configure_process(settings: Settings) -> None:
    """Sets what pynetdicom and tempfile keep per process. Called once, in ``main``, before any listener."""
    archive = Archive(settings.data_dir)
    archive.prepare()
    _config.STORE_RECV_CHUNKED_DATASET = True
    Spool.put_into_pynetdicom()
    count_on_the_monotonic_clock()
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
    if settings.request_commitment_from or settings.commits_to:
        # Whoever reports to us is the SCP, and says so (PS3.7 D.3.3.4).
        entity.add_supported_context(UID(STORAGE_COMMITMENT), list(ENCODINGS), scu_role=True, scp_role=True)
    return entity
