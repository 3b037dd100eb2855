"""The listener on the wire: what each kind of object is answered, and that it goes on with the next.

The peer is pynetdicom's SCU, since dcmtk's refuses to send what is wrong; ``tests/peers`` has the others.
"""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmwrite
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from sqlalchemy import select

from service.records.database import Records
from service.records.tables import Delivery, Instance
from service.settings import load_settings
from service.wire import statuses
from service.wire.association import rejection_of
from service.wire.listener import COMPRESSED, UNCOMPRESSED, Listener
from tests.images import CR, DX, DX_FOR_PROCESSING, SECONDARY_CAPTURE, make_radiograph
from tests.service.conftest import listening_node
from tests.waiting import wait_until

CT = "1.2.840.10008.5.1.4.1.1.2"
PDF = "1.2.840.10008.5.1.4.1.1.104.1"

pytestmark = pytest.mark.usefixtures("way")


@pytest.fixture
def listening(tmp_path: Path, process_settings: None) -> Iterator[tuple[Listener, Records]]:
    settings = load_settings(
        data_dir=tmp_path / "node", dicom_host="127.0.0.1", dicom_port=0, minimum_free_bytes=0
    )
    with listening_node(settings) as pair:
        yield pair


@contextmanager
def _associated(
    listener: Listener, *contexts: tuple[str, str], calling: str = "MODALITY"
) -> Iterator[Association]:
    entity = AE(ae_title=calling)
    for sop_class, syntax in contexts or ((DX, ExplicitVRLittleEndian),):
        entity.add_requested_context(sop_class, syntax)
    association = entity.associate("127.0.0.1", listener.port, ae_title="LITEGPT")
    yield association
    if association.is_established:
        association.release()


def _send(association: Association, content: bytes, sop_class: str, sop_instance: str) -> int | None:
    """A C-STORE of exactly these dataset bytes, under exactly these UIDs."""
    request = C_STORE()
    request.MessageID = 1
    request.AffectedSOPClassUID = sop_class
    request.AffectedSOPInstanceUID = sop_instance
    request.Priority = 2
    request.DataSet = BytesIO(content) if content else None
    association._reactor_checkpoint.clear()
    while not association._is_paused:
        pass
    association.dimse.send_msg(request, association.accepted_contexts[0].context_id)
    _, reply = association.dimse.get_msg(block=True)
    association._reactor_checkpoint.set()
    status: Any = reply
    return None if status is None else int(status.Status)


def _bytes(dataset: Dataset) -> bytes:
    """The dataset's own bytes, without preamble and file meta."""
    file = BytesIO()
    meta = dataset.file_meta
    del dataset.file_meta
    dcmwrite(
        file,
        dataset,
        implicit_vr=meta.TransferSyntaxUID.is_implicit_VR,
        little_endian=True,
        enforce_file_format=False,
    )
    dataset.file_meta = meta
    return file.getvalue()


def _count(records: Records) -> int:
    with records.reading() as session:
        return len(session.scalars(select(Instance)).all())


@pytest.mark.parametrize("sop_class", [CR, DX, DX_FOR_PROCESSING, SECONDARY_CAPTURE])
def test_each_class_of_radiograph_is_taken(listening: tuple[Listener, Records], sop_class: str) -> None:
    listener, records = listening
    with _associated(listener, (sop_class, ExplicitVRLittleEndian)) as association:
        assert association.send_c_store(make_radiograph(sop_class=sop_class)).Status == statuses.SUCCESS
    assert _count(records) == 1


@pytest.mark.parametrize(
    "syntax",
    [
        ImplicitVRLittleEndian,
        DeflatedExplicitVRLittleEndian,
        RLELossless,
        JPEGLSLossless,
        JPEG2000Lossless,
    ],
)
def test_each_transfer_syntax_is_stored_as_it_came(listening: tuple[Listener, Records], syntax: str) -> None:
    listener, records = listening
    with _associated(listener, (DX, syntax)) as association:
        assert association.send_c_store(make_radiograph(transfer_syntax=syntax)).Status == statuses.SUCCESS
    with records.reading() as session:
        assert session.scalars(select(Instance)).one().transfer_syntax_uid == syntax


def test_every_promised_transfer_syntax_is_accepted(listening: tuple[Listener, Records]) -> None:
    listener, _ = listening
    promised = [*UNCOMPRESSED, *COMPRESSED]
    with _associated(listener, *((CR, syntax) for syntax in promised)) as association:
        accepted = {context.transfer_syntax[0] for context in association.accepted_contexts}
    assert accepted == set(promised)


def test_a_ct_and_a_pdf_are_refused_as_contexts_unless_everything_is_taken(
    tmp_path: Path, process_settings: None
) -> None:
    for accept_all, accepted in ((False, 1), (True, 3)):
        settings = load_settings(
            data_dir=tmp_path / str(accept_all),
            dicom_host="127.0.0.1",
            dicom_port=0,
            accept_all_storage=accept_all,
        )
        contexts = [(uid, ExplicitVRLittleEndian) for uid in (DX, CT, PDF)]
        with listening_node(settings) as (listener, records), _associated(listener, *contexts) as association:
            assert len(association.accepted_contexts) == accepted
            if not accept_all:
                continue
            ct = make_radiograph(SOPClassUID=CT, Modality="CT")
            ct.file_meta.MediaStorageSOPClassUID = CT
            assert association.send_c_store(ct).Status == statuses.SUCCESS
            with records.reading() as session:
                assert session.scalars(select(Instance)).one().reason == "not a radiograph"


@pytest.mark.parametrize(
    ("change", "status"),
    [
        pytest.param({"SOPInstanceUID": "1.2.3"}, statuses.DATASET_MISMATCH, id="another instance"),
        pytest.param({"SOPClassUID": CT}, statuses.DATASET_MISMATCH, id="another class"),
        pytest.param({"StudyInstanceUID": None}, statuses.CANNOT_UNDERSTAND, id="no study"),
        pytest.param({"SeriesInstanceUID": None}, statuses.CANNOT_UNDERSTAND, id="no series"),
        pytest.param({"SOPInstanceUID": None}, statuses.CANNOT_UNDERSTAND, id="no instance"),
    ],
)
def test_what_is_wrong_with_the_identity_has_its_status(
    listening: tuple[Listener, Records], change: dict[str, Any], status: int
) -> None:
    listener, records = listening
    dataset = make_radiograph()
    named = str(dataset.SOPInstanceUID)
    for keyword, value in change.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    with _associated(listener) as association:
        assert _send(association, _bytes(dataset), DX, named) == status
        assert association.send_c_store(make_radiograph()).Status == statuses.SUCCESS
    assert _count(records) == 1


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda content: content[:-200], id="truncated pixels"),
        pytest.param(lambda content: content[:300], id="truncated header"),
        pytest.param(lambda content: b"\xff" * 500, id="noise"),
        pytest.param(lambda content: b"%PDF-1.7 not a dataset at all" * 20, id="a document"),
    ],
)
def test_what_cannot_be_read_is_refused_and_the_next_is_taken(
    listening: tuple[Listener, Records], damage: Any, caplog: pytest.LogCaptureFixture
) -> None:
    listener, records = listening
    dataset = make_radiograph()
    with _associated(listener) as association:
        status = _send(association, damage(_bytes(dataset)), DX, dataset.SOPInstanceUID)
        assert status == statuses.CANNOT_UNDERSTAND
        assert association.send_c_store(make_radiograph()).Status == statuses.SUCCESS
    assert _count(records) == 1
    (line,) = [record.getMessage() for record in caplog.records if record.name == "service.wire.storage"]
    assert dataset.SOPInstanceUID in line and "C000" in line and "\n" not in line


def test_a_command_without_a_dataset_is_refused(listening: tuple[Listener, Records]) -> None:
    listener, records = listening
    with _associated(listener) as association:
        assert _send(association, b"", DX, "1.2.3") == statuses.CANNOT_UNDERSTAND
        assert association.send_c_store(make_radiograph()).Status == statuses.SUCCESS
    assert _count(records) == 1


def test_a_uid_that_would_climb_out_of_the_archive_is_refused(
    listening: tuple[Listener, Records], tmp_path: Path
) -> None:
    listener, records = listening
    content = _bytes(make_radiograph(SOPInstanceUID="1.2.3.4.5.6.7"))
    evil = content.replace(b"1.2.3.4.5.6.7\0", b"../../../etc/x")
    assert evil != content
    with _associated(listener) as association:
        assert _send(association, evil, DX, "../../../etc/x") == statuses.CANNOT_UNDERSTAND
    assert _count(records) == 0
    assert list((tmp_path / "node" / "images").rglob("*")) == []


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"Rows": 0, "Columns": 0}, "no pixels: 0 rows, 0 columns"),
        ({"Rows": 65535, "Columns": 65535}, "too many pixels: 65535 rows, 65535 columns"),
    ],
)
def test_impossible_sizes_are_stored_with_a_reason(
    listening: tuple[Listener, Records], attributes: dict[str, int], reason: str
) -> None:
    listener, records = listening
    dataset = make_radiograph(**attributes)
    with _associated(listener) as association:
        assert association.send_c_store(dataset).Status == statuses.SUCCESS
    with records.reading() as session:
        assert session.scalars(select(Instance)).one().reason == reason


def test_an_association_that_breaks_off_leaves_no_trace(
    listening: tuple[Listener, Records], tmp_path: Path
) -> None:
    listener, records = listening
    with _associated(listener) as association:
        association.send_c_store(make_radiograph())
        association.abort()
    with socket.create_connection(("127.0.0.1", listener.port)) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
    with _associated(listener) as association:
        assert association.send_c_store(make_radiograph()).Status == statuses.SUCCESS
    assert _count(records) == 2


def test_small_replies_are_sent_at_once(listening: tuple[Listener, Records]) -> None:
    listener, _ = listening
    with _associated(listener):
        (association,) = listener._plain.active_associations
        connection = association.dul.socket.socket
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


def test_a_listener_that_stops_ends_the_associations_that_do_not(
    tmp_path: Path, process_settings: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.wire.listener._GRACE_SECONDS", 0.1)
    settings = load_settings(data_dir=tmp_path, dicom_host="127.0.0.1", dicom_port=0, minimum_free_bytes=0)
    with listening_node(settings) as (listener, _), _associated(listener) as association:
        listener.stop()
        wait_until(lambda: association.is_aborted, 10, "end of the association")


def test_only_listed_callers_are_let_in(tmp_path: Path, process_settings: None) -> None:
    settings = load_settings(
        data_dir=tmp_path, dicom_host="127.0.0.1", dicom_port=0, calling_ae_titles=["GOOD"]
    )
    with listening_node(settings) as (listener, _):
        for calling, established in (("GOOD", True), ("EVIL", False)):
            with _associated(listener, calling=calling) as association:
                assert association.is_established is established


def test_a_full_disk_refuses_images_for_now_and_still_answers_an_echo(
    tmp_path: Path, process_settings: None
) -> None:
    settings = load_settings(
        data_dir=tmp_path, dicom_host="127.0.0.1", dicom_port=0, minimum_free_bytes=2**60
    )
    with listening_node(settings) as (listener, _):
        with _associated(listener) as association:
            answer: Any = rejection_of(association)
            assert answer is not None
            assert (answer.result, answer.result_source, answer.diagnostic) == (2, 3, 2)
        with _associated(listener, ("1.2.840.10008.1.1", ImplicitVRLittleEndian)) as association:
            assert association.send_c_echo().Status == statuses.SUCCESS


def test_a_database_that_is_away_is_answered_with_try_later(
    listening: tuple[Listener, Records], tmp_path: Path
) -> None:
    listener, records = listening
    with records.writing() as session:
        session.connection().exec_driver_sql("ALTER TABLE instance RENAME TO elsewhere")
    with _associated(listener) as association:
        assert association.send_c_store(make_radiograph()).Status == statuses.OUT_OF_RESOURCES
    with records.writing() as session:
        session.connection().exec_driver_sql("ALTER TABLE elsewhere RENAME TO instance")
    with _associated(listener) as association:
        assert association.send_c_store(make_radiograph()).Status == statuses.SUCCESS


def test_a_port_in_use_is_one_line(listening: tuple[Listener, Records], tmp_path: Path) -> None:
    port = listening[0].port
    command = [sys.executable, "-m", "service.cli.main", "up", "--data-dir", str(tmp_path / "other")]
    done = subprocess.run([*command, "--dicom-port", str(port)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == f"litegpt-node: port {port} on 0.0.0.0: Address already in use"
    assert "Traceback" not in done.stderr


def test_no_log_line_names_the_patient(
    listening: tuple[Listener, Records], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    listener, _ = listening
    with _associated(listener) as association:
        association.send_c_store(make_radiograph(PatientName="Verysecret^Name"))
        association.send_c_store(make_radiograph(PatientName="Verysecret^Name", ViewPosition="LL"))
    assert "stored" in caplog.text
    assert "Verysecret" not in caplog.text


def test_what_a_peer_sends_is_passed_on_and_what_we_had_moved_to_us_is_not(
    tmp_path: Path, process_settings: None
) -> None:
    """To where a rule says of its sender; what the destination itself sends is not passed back to it."""
    (tmp_path / "node.toml").write_text(
        '[[study_rules]]\nname = "ward"\ncalling_ae_title = "WARD"\nforward_images_to = "VNA@host:1"\n'
    )
    settings = load_settings(
        tmp_path / "node.toml",
        data_dir=tmp_path / "node",
        dicom_host="127.0.0.1",
        dicom_port=0,
        minimum_free_bytes=0,
        forward_images_to="PACS@host:104",
    )
    sent, moved, moved_for_another, of_ward, of_pacs = (make_radiograph() for _ in range(5))
    with listening_node(settings) as (listener, records):
        with _associated(listener) as association:
            for image, originator in ((sent, None), (moved, "LITEGPT"), (moved_for_another, "SOMEBODY")):
                number = None if originator is None else 1
                association.send_c_store(image, originator_aet=originator, originator_id=number)
        for image, calling in ((of_ward, "WARD"), (of_pacs, "PACS")):
            with _associated(listener, calling=calling) as association:
                association.send_c_store(image)
        with records.reading() as session:
            rows = session.execute(
                select(Instance.sop_instance_uid, Delivery.destination)
                .join(Delivery, Delivery.instance_id == Instance.id)
                .order_by(Delivery.id)
            ).all()
    passed_on = ((sent, "PACS@host:104"), (moved_for_another, "PACS@host:104"), (of_ward, "VNA@host:1"))
    assert rows == [(str(image.SOPInstanceUID), to) for image, to in passed_on]
