"""What one association may take: a PDU that does not end, a dataset, a command or a study without measure."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.association import Association
from sqlalchemy import func, select

from service.records.database import Records
from service.records.tables import Instance
from service.settings import load_settings
from service.wire import storage
from service.wire.listener import Listener
from tests.fuzz.upper_layer import command, data
from tests.images import DX, make_radiograph
from tests.service.conftest import listening_node
from tests.waiting import wait_until

VERIFICATION = "1.2.840.10008.1.1"

pytestmark = pytest.mark.usefixtures("process_settings", "way")


@contextmanager
def _listening(folder: Path, **values: object) -> Iterator[tuple[Listener, Records]]:
    address = {"dicom_host": "127.0.0.1", "dicom_port": 0, "minimum_free_bytes": 0}
    with listening_node(load_settings(data_dir=folder / "node", **{**address, **values})) as pair:
        yield pair


@contextmanager
def _associated(listener: Listener, sop_class: str = DX) -> Iterator[Association]:
    entity = AE(ae_title="MODALITY")
    entity.add_requested_context(sop_class, ExplicitVRLittleEndian)
    association = entity.associate("127.0.0.1", listener.port, max_pdu=16384)
    assert association.is_established
    with _raw(association):  # where the node ends it, pynetdicom leaves it to the garbage collector
        yield association
        if association.is_established:
            association.release()


def _raw(association: Association) -> socket.socket:
    """The socket below an association, to say on it what pynetdicom would not."""
    transport: Any = association.dul.socket
    connection: socket.socket = transport.socket
    return connection


def _connect(listener: Listener) -> socket.socket:
    return socket.create_connection(("127.0.0.1", listener.port), timeout=20)


def _dribble(connection: socket.socket, stop: threading.Event, every_seconds: float) -> None:
    """A byte now and then."""
    try:
        while not stop.wait(every_seconds):
            connection.sendall(b"\0")
    except OSError:
        return


def _is_ended(connection: socket.socket) -> bool:
    try:
        return connection.recv(100) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


@pytest.mark.parametrize(
    ("begins", "every_seconds"),
    [(b"\x01", 0.4), (b"\x01\x00\x00\x00\x10\x00", 0.05)],
    ids=["header", "body"],
)
def test_who_sends_a_byte_now_and_then_holds_no_place_for_good(
    tmp_path: Path, begins: bytes, every_seconds: float
) -> None:
    """Five hold all the places; pynetdicom would wait for each as long as bytes come."""
    stop = threading.Event()
    limits = {"maximum_associations": 5, "pdu_timeout_seconds": 1, "acse_timeout_seconds": 1}
    with _listening(tmp_path, **limits) as (listener, _):
        slow = [_connect(listener) for _ in range(5)]
        threads = [threading.Thread(target=_dribble, args=(one, stop, every_seconds)) for one in slow]
        for connection, thread in zip(slow, threads, strict=True):
            connection.sendall(begins)
            thread.start()
        try:
            assert all(map(_is_ended, slow))
            wait_until(lambda: _stores(listener), 10, "place for another")
        finally:
            stop.set()
            for connection, thread in zip(slow, threads, strict=True):
                thread.join()
                connection.close()


def _stores(listener: Listener) -> bool:
    entity = AE(ae_title="MODALITY")
    entity.add_requested_context(DX, ExplicitVRLittleEndian)
    association = entity.associate("127.0.0.1", listener.port)
    if not association.is_established:
        return False
    status = association.send_c_store(make_radiograph())
    association.release()
    return status.Status == 0


def test_who_is_slow_in_the_midst_of_an_image_is_ended_and_nothing_is_left(tmp_path: Path) -> None:
    with _listening(tmp_path, pdu_timeout_seconds=1) as (listener, _), _associated(listener) as association:
        connection = _raw(association)
        part = data(1, 0, b"\0" * 1000)
        connection.sendall(data(1, 1 | 2, _command()) + part + part[:-10])
        wait_until(lambda: _incoming(tmp_path), 10, "beginning of the file")
        assert association.is_established
        wait_until(lambda: not association.is_established, 10, "end of the association")
        wait_until(lambda: not _incoming(tmp_path), 10, "end of the file")


def test_a_pdu_at_a_pace_may_last_longer(tmp_path: Path) -> None:
    """At 1000 bytes a second the time is longer by what has come."""
    with _listening(tmp_path, pdu_timeout_seconds=0.5) as (listener, _), _associated(listener) as association:
        connection = _raw(association)
        association._reactor_checkpoint.clear()
        wait_until(lambda: association._is_paused, 5, "pause of the reactor")
        rest = data(1, 1 | 2, _command()) + data(1, 2, b"\0" * 8000)
        began = time.monotonic()
        while rest:
            connection.sendall(rest[:500])
            rest = rest[500:]
            time.sleep(0.07)
        assert time.monotonic() - began > 1
        _, reply = association.dimse.get_msg(block=True)
        association._reactor_checkpoint.set()
        status: Any = reply
        assert status.Status == 0xC000  # nonsense, and taken to its end


@pytest.mark.parametrize("pdu_type", [1, 4], ids=["A-ASSOCIATE-RQ", "P-DATA-TF"])
def test_a_pdu_of_four_gigabytes_is_not_waited_for(tmp_path: Path, pdu_type: int) -> None:
    with _listening(tmp_path) as (listener, _):
        if pdu_type == 1:
            with _connect(listener) as connection:
                connection.sendall(struct.pack(">BBL", pdu_type, 0, 0xFFFFFFF0))
                assert _is_ended(connection)
        else:
            with _associated(listener) as association:
                _raw(association).sendall(struct.pack(">BBL", pdu_type, 0, 0xFFFFFFF0))
                wait_until(lambda: not association.is_established, 10, "end of the association")


def test_a_dataset_that_is_too_large_is_refused_and_nothing_of_it_kept(tmp_path: Path) -> None:
    with _listening(tmp_path, maximum_dataset_bytes=100_000) as (listener, records):
        with _associated(listener) as association:
            large = make_radiograph(rows=2000, columns=1000)
            assert association.send_c_store(large).Status == 0xA700
            assert association.send_c_store(make_radiograph()).Status == 0x0000
        assert _count(records) == 1
        assert _incoming(tmp_path) == []


def test_no_more_of_a_dataset_is_written_than_it_may_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    size_of = storage._size_of

    def _measured(path: Path | None) -> int:
        sizes.append(size_of(path))
        return sizes[-1]

    monkeypatch.setattr(storage, "_size_of", _measured)
    with (
        _listening(tmp_path, maximum_dataset_bytes=100_000) as (listener, _),
        _associated(listener) as association,
    ):
        assert association.send_c_store(make_radiograph(rows=2000, columns=1000)).Status == 0xA700
    assert 100_000 < sizes[0] < 100_000 + 1_100_000  # the limit, and a PDU at the most


def test_a_command_that_does_not_end_is_not_listened_to(tmp_path: Path) -> None:
    with _listening(tmp_path) as (listener, _), _associated(listener) as association:
        connection = _raw(association)
        with pytest.raises(OSError):
            for _ in range(200):
                connection.sendall(data(1, 1, b"\0" * 16000))
                time.sleep(0.005)
        wait_until(lambda: not association.is_established, 10, "end of the association")


def test_an_association_may_last_so_long_and_no_longer(tmp_path: Path) -> None:
    with (
        _listening(tmp_path, maximum_association_seconds=1) as (listener, _),
        _associated(listener, VERIFICATION) as association,
    ):
        began = time.monotonic()
        while association.is_established and "Status" in association.send_c_echo():
            time.sleep(0.05)
        assert 0.8 < time.monotonic() - began < 10
        wait_until(lambda: not association.is_established, 10, "end of the association")


def test_a_study_may_have_so_many_objects_and_no_more(tmp_path: Path) -> None:
    first, second, third = (make_radiograph(study_uid="1.2.3.4") for _ in range(3))
    with (
        _listening(tmp_path, maximum_instances_per_study=2) as (listener, records),
        _associated(listener) as association,
    ):
        answered = [association.send_c_store(one).Status for one in (first, second, third, first)]
        assert answered == [0x0000, 0x0000, 0xA700, 0x0000]  # what is there already is no more of it
        assert association.send_c_store(make_radiograph()).Status == 0x0000
        assert _count(records) == 3


def _incoming(folder: Path) -> list[Path]:
    return list((folder / "node" / "incoming").glob("*.dcm"))


def _count(records: Records) -> int:
    with records.reading() as session:
        return session.scalar(select(func.count()).select_from(Instance)) or 0


def _command() -> bytes:
    return command(0x0001, DX, "1.2.3.4", True)
