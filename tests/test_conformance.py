"""The conformance statement lists what the node says and understands on the network, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from pydicom import Dataset
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.events import Event

from service.eligibility import RADIOGRAPHS, Eligibility
from service.errors import NodeError, NotSetUp, PeerFailed, PeerRefused, TooManyMatches
from service.peers import Destination
from service.records.conflicts import FIRST_KEPT, LATER_TAKEN
from service.records.safekeeping import CLASS_INSTANCE_CONFLICT, NO_SUCH_OBJECT
from service.settings import Settings, settings_without_sources
from service.wire import commitment, safekeeping, statuses
from service.wire.association import rejection_of
from service.wire.commitment import ENCODINGS, STORAGE_COMMITMENT, WELL_KNOWN_INSTANCE
from service.wire.listener import Listener, _application_entity
from service.wire.query import FIND, StudyQuestion
from service.wire.retrieval import GET, GET_CONTEXTS, MOVE
from service.wire.sender import Sender, result_contexts
from tests.conformance import TEXT, Row, table, tables
from tests.images import CR, DX_FOR_PROCESSING, SECONDARY_CAPTURE, make_radiograph

VERIFICATION = "1.2.840.10008.1.1"


@cache
def supported() -> dict[str, list[str]]:
    """What the listener offers: transfer syntaxes, in order, by SOP class."""
    contexts = _application_entity(settings_without_sources()).supported_contexts
    return {str(one.abstract_syntax): [str(uid) for uid in one.transfer_syntax] for one in contexts}


def test_the_classes_received_are_those_of_the_listener() -> None:
    rows = table("SOP classes received")
    assert sorted(uid for _, uid, _ in rows) == sorted(supported())


def test_the_transfer_syntaxes_received_are_those_of_the_listener_in_its_order() -> None:
    storage, verification = tables("Transfer syntaxes received")
    for sop_class, syntaxes in supported().items():
        documented = verification if sop_class == VERIFICATION else storage
        assert [uid for _, uid in documented] == syntaxes


def test_the_transfer_syntaxes_sent_are_those_of_the_sender() -> None:
    documented = [uid for _, uid in tables("SOP classes sent")[1]]
    classes = [row[3] for row in tables("SOP classes sent")[0]]
    assert result_contexts(classes) == [(sop_class, documented) for sop_class in classes]


def test_the_echo_and_the_pdu_size_we_send_are_as_stated() -> None:
    heard: list[Any] = []

    def listen(event: Event) -> None:
        heard.append(event.assoc.requestor)

    peer = AE(ae_title="PEER")
    peer.add_supported_context(VERIFICATION)
    server = peer.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_REQUESTED, listen)])
    assert server is not None
    try:
        port = server.server_address[1]
        Sender(settings_without_sources()).echo(Destination(ae_title="PEER", host="127.0.0.1", port=port))
    finally:
        server.shutdown()
        server.server_close()
    (requestor,) = heard
    (context,) = requestor.primitive.presentation_context_definition_list
    assert (context.abstract_syntax, context.transfer_syntax) == (VERIFICATION, ["1.2.840.10008.1.2"])
    assert f"{VERIFICATION} in Implicit VR Little Endian alone" in re.sub(r"\s+", " ", TEXT)
    policies = {row[0]: row[1] for row in table("Application entity: association policies")}
    assert policies["Largest PDU, as initiator"].startswith(f"{requestor.maximum_length} bytes")


def test_associations_are_rejected_as_stated(tmp_path: Path) -> None:
    """Those of a full disk and of a read-only one are tried elsewhere, where they are the code's own."""
    with _accepting(tmp_path, maximum_associations=1) as port, _associated(port, "FIRST"):
        rejected = [_rejection(port, "SECOND")]
    with _accepting(tmp_path, maximum_associations_per_address=1) as port, _associated(port, "FIRST"):
        rejected.append(_rejection(port, "SECOND"))
    with _accepting(tmp_path, calling_ae_titles=["GOOD"]) as port, _associated(port, "GOOD"):
        rejected.append(_rejection(port, "EVIL"))
    with _accepting(tmp_path, called_ae_titles=["OTHER"]) as port:
        rejected.append(_rejection(port, "GOOD"))
    (tmp_path / "users").touch()
    with _accepting(tmp_path, dicom_users_file=tmp_path / "users") as port:
        rejected.append(_rejection(port, "GOOD"))
    rows = [tuple(int(cell.split()[0]) for cell in row[:3]) for row in table("Associations that we reject")]
    assert rows == [(2, 3, 2), (2, 3, 2), *rejected]


@contextmanager
def _accepting(folder: Path, **values: object) -> Iterator[int]:
    """A listener on a free port."""
    address = {"dicom_host": "127.0.0.1", "dicom_port": 0, "minimum_free_bytes": 0}
    listener = Listener(settings_without_sources(data_dir=folder, **address, **values))
    listener.start()
    try:
        yield listener.port
    finally:
        listener.stop()


@contextmanager
def _associated(port: int, calling: str) -> Iterator[None]:
    association = _associate(port, calling)
    assert association.is_established
    yield
    association.release()


def _rejection(port: int, calling: str) -> tuple[int, int, int]:
    association = _associate(port, calling)
    answer: Any = rejection_of(association)
    assert answer is not None
    return answer.result, answer.result_source, answer.diagnostic


def _associate(port: int, calling: str) -> Association:
    entity = AE(ae_title=calling)
    entity.add_requested_context(VERIFICATION)
    return entity.associate("127.0.0.1", port, ae_title="ANYTHING")


def test_the_statuses_answered_are_those_of_the_code() -> None:
    rows = dict.fromkeys(row[0].strip("`") for row in table("Statuses we answer"))
    documented = [int(status, 16) for status in rows]
    assert documented == [
        statuses.SUCCESS,
        statuses.OUT_OF_RESOURCES,
        statuses.UNEXPECTED,
        statuses.DATASET_MISMATCH,
        statuses.CANNOT_UNDERSTAND,
    ]
    constants = {value for name, value in vars(statuses).items() if name.isupper() and isinstance(value, int)}
    assert constants - {statuses.SOP_CLASS_NOT_SUPPORTED} == set(documented)


def test_every_status_of_a_destination_does_what_is_stated() -> None:
    rows = table("What a destination's answer makes us do")
    for status in range(0x10000):
        stated = _becomes(rows, status)
        if statuses.is_accepted(status):
            expected = "sent"
        elif status == statuses.SOP_CLASS_NOT_SUPPORTED:
            expected = "replaced"
        else:
            expected = "retried" if statuses.is_transient(status) else "refused"
        assert stated == expected, f"{status:04X}"


def _becomes(rows: list[Row], status: int) -> str:
    """What a table of statuses says of one; the first row that fits counts."""
    for written, becomes in rows:
        pattern = ".*" if written == "any other" else written.strip("`").replace("x", ".")
        if re.fullmatch(pattern, f"{status:04X}"):
            return becomes
    raise AssertionError(f"no row for {status:04X}")


MEANINGS: dict[type[NodeError] | None, tuple[str, str]] = {
    None: ("done", "retried"),
    NotSetUp: ("paused", "paused, with its job"),
    TooManyMatches: ("narrower", ""),
    PeerRefused: ("paused", "failed"),
    PeerFailed: ("retried", "retried"),
}


def test_every_last_status_of_a_pacs_does_what_is_stated() -> None:
    of_find, of_retrieve, _ = tables("What a PACS's last answer makes us do")
    for status in range(0x10000):
        if not statuses.is_pending(status):
            assert _becomes(of_find, status) == MEANINGS[statuses.error_of_find(status)][0], f"{status:04X}"
            assert _becomes(of_retrieve, status) == MEANINGS[statuses.error_of_retrieve(status)][1]


def test_the_classes_and_keys_of_query_and_retrieve_are_those_of_the_code() -> None:
    classes, keys = tables("Query and retrieve")
    assert [uid for _, uid, _ in classes] == [FIND, MOVE, GET]
    images = [uid for _, uid, _ in table("SOP classes received") if uid in RADIOGRAPHS]
    proposed = {(sop_class, tuple(syntaxes)) for sop_class, syntaxes in GET_CONTEXTS}
    syntaxes = tuple(supported()[CR])
    assert proposed == {
        (sop_class, group)
        for sop_class in images
        for group in (syntaxes[:4], *((one,) for one in syntaxes[4:]))
    }
    asked = {
        element.keyword
        for element in StudyQuestion(patient_id="P", accession_number="A", modality="CR").identifier()
    }
    documented = set(re.findall(r"`(\w+)`", " ".join(keys[0])))
    assert asked == documented | {"QueryRetrieveLevel"}


def test_storage_commitment_is_as_stated() -> None:
    classes, *_ = tables("Storage commitment")
    assert [row[1:3] for row in classes] == [(STORAGE_COMMITMENT, WELL_KNOWN_INSTANCE)]
    asked = settings_without_sources(request_commitment_from=["A@a:1"])
    offered = {str(one.abstract_syntax): one for one in _application_entity(asked).supported_contexts}
    assert offered.keys() - supported().keys() == {STORAGE_COMMITMENT}
    context = offered[STORAGE_COMMITMENT]
    assert [uid.name for uid in context.transfer_syntax] == [
        *("Explicit VR Little Endian", "Implicit VR Little Endian")
    ]
    assert context.transfer_syntax == list(ENCODINGS)


def test_the_answers_to_requests_and_reports_of_commitment_are_those_of_the_code() -> None:
    def stated(rows: list[Row]) -> set[int]:
        return {int(row[0].strip("`"), 16) for row in rows if row[0].startswith("`")}

    _, _, _, reports = tables("Storage commitment")
    of_reports = (commitment.NO_SUCH_INSTANCE, commitment.NO_SUCH_EVENT, commitment.INVALID_ARGUMENT)
    assert stated(reports) == {statuses.SUCCESS, commitment.PROCESSING_FAILURE, *of_reports}
    requests, failures, _ = tables("Storage commitment to modalities")
    of_requests = (safekeeping.NO_SUCH_ACTION, safekeeping.NOT_AUTHORIZED, safekeeping.RESOURCE_LIMITATION)
    shared = stated(reports) - {commitment.NO_SUCH_EVENT}
    assert stated(requests) == shared | set(of_requests)
    assert stated(failures) == {NO_SUCH_OBJECT, CLASS_INSTANCE_CONFLICT}


def test_settings_and_their_defaults_are_those_of_the_node() -> None:
    for name, default, _ in table("Settings and their defaults"):
        value = Settings.model_fields[name.strip("`")].default
        assert default == ("none" if value in ((), None) else f"`{_as_written(value)}`"), name


def _as_written(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def test_every_setting_that_is_named_exists() -> None:
    named = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", TEXT))
    assert named - set(Settings.model_fields) == set()


AGAINST: list[Dataset] = [
    make_radiograph(sop_class=DX_FOR_PROCESSING),
    make_radiograph(sop_class=CR, SOPClassUID="1.2.840.10008.5.1.4.1.1.2"),
    make_radiograph(Modality="OT"),
    make_radiograph(Modality=None),
    make_radiograph(ImageType=["DERIVED", "SECONDARY"]),
    make_radiograph(BodyPartExamined="HAND"),
    *(
        make_radiograph(ViewPosition=view)
        for view in ("LL", "RL", "LATERAL", "LAT", "LLD", "RLD", "LLO", "RLO", "OBL")
    ),
    make_radiograph(Rows=0),
    make_radiograph(Rows=65535, Columns=65535),
    make_radiograph(NumberOfFrames=2),
    make_radiograph(PatientBirthDate="20200101"),
]
OF_THE_INTAKE = {
    "no pixel data",
    "corrected header of an image that is already stored",
    "other pixels under a UID that is already stored",
    "purged, and stored again with other bytes",
}


def test_the_reasons_not_to_read_are_those_of_the_code() -> None:
    rules = Eligibility.of(settings_without_sources())
    documented = [row[0].strip("`") for row in table("Which images are read")]
    met = set()
    for dataset in AGAINST:
        reason = rules.reason_against(dataset)
        met.add(next((text for text in documented if re.fullmatch(_pattern(text), reason)), reason))
    records = Path(__file__).resolve().parents[1] / "service" / "records"
    code = "".join((records / name).read_text() for name in ("intake.py", "versions.py"))
    for reason in OF_THE_INTAKE:
        assert f'"{reason}"' in code
    assert met | OF_THE_INTAKE | {FIRST_KEPT, LATER_TAKEN} == set(documented)
    assert rules.reason_against(make_radiograph()) == ""
    assert rules.reason_against(make_radiograph(sop_class=SECONDARY_CAPTURE)) == "modality OT"


def _pattern(documented: str) -> str:
    return re.escape(documented).replace("…", r".+")
