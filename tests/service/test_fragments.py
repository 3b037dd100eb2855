"""However a sender cuts a dataset into fragments, and these into PDUs, the file has its bytes."""

from __future__ import annotations

import hashlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE
from sqlalchemy import select

from service.records.database import Records
from service.records.tables import Instance
from service.settings import load_settings
from service.wire.lane import Lane
from service.wire.listener import Listener
from service.wire.transport import Transport
from tests.fuzz.upper_layer import COMMAND, LAST, association_request, command, pdu, read_pdu, value
from tests.images import DX, encoded, make_radiograph
from tests.service.conftest import listening_node
from tests.waiting import wait_until

_STORE = 0x0001
_ABORT = 7
_IMAGE, _OTHER = 1, 3
"""Presentation contexts; the other one is not that of the images."""


@pytest.fixture
def node(process_settings: None, tmp_path: Path) -> Iterator[tuple[Listener, Records, Path]]:
    folder = tmp_path / "node"
    address = {"dicom_host": "127.0.0.1", "dicom_port": 0, "minimum_free_bytes": 0}
    with listening_node(load_settings(data_dir=folder, **address)) as (listener, records):
        yield listener, records, folder


@contextmanager
def _associated(listener: Listener) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", listener.port), timeout=20) as connection:
        connection.sendall(pdu(1, association_request()))
        assert read_pdu(connection)[0] == 2
        yield connection


def _request(dataset: Dataset) -> bytes:
    return value(_IMAGE, COMMAND | LAST, command(_STORE, DX, dataset.SOPInstanceUID, True))


def _status(body: bytes) -> int:
    """Of a C-STORE-RSP, in a P-DATA-TF."""
    at = body.index(struct.pack("<HHI", 0, 0x0900, 2)) + 8
    return int.from_bytes(body[at : at + 2], "little")


def _kept(records: Records, folder: Path, dataset: Dataset) -> tuple[bytes, str]:
    """The file's dataset, and the digest in the records."""
    named = select(Instance.path, Instance.digest).where(Instance.sop_instance_uid == dataset.SOPInstanceUID)
    with records.reading() as session:
        path, digest = session.execute(named).one()
    content = (folder / path).read_bytes()
    return content[144 + int.from_bytes(content[140:144], "little") :], digest


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cuts=st.lists(st.floats(0, 1), max_size=12),
    together=st.lists(st.integers(1, 4), min_size=1, max_size=8),
    at_once=st.integers(1, 5000),
)
@example(cuts=[0.0, 0.0, 0.5, 1.0, 1.0], together=[1], at_once=5000)
@example(cuts=[0.2, 0.4, 0.6, 0.8], together=[1, 2], at_once=100)
def test_any_cut_of_a_dataset_is_put_together(
    node: tuple[Listener, Records, Path], cuts: list[float], together: list[int], at_once: int
) -> None:
    listener, records, folder = node
    dataset = make_radiograph()
    content = encoded(dataset)
    bounds = [0, *sorted(int(cut * len(content)) for cut in cuts), len(content)]
    parts = [content[start:end] for start, end in pairwise(bounds)]
    values = [
        _request(dataset),
        *(value(_IMAGE, 0, part) for part in parts[:-1]),
        value(_IMAGE, LAST, parts[-1]),
    ]
    stream = b""
    while values:
        count = together[len(values) % len(together)]
        stream += pdu(4, b"".join(values[:count]))
        values = values[count:]
    with _associated(listener) as connection:
        for start in range(0, len(stream), at_once):
            connection.sendall(stream[start : start + at_once])
        assert _status(read_pdu(connection)[1]) == 0
    assert _kept(records, folder, dataset) == (content, hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize(
    ("parts", "short"),
    [
        (lambda command, one, two: [command, one, two], [True, True, True]),
        (lambda command, one, two: [command + one + two], [True]),
        (lambda command, one, two: [command, one + two], [True, True]),
        (lambda command, one, two: [command + one, two], [True, True]),
        # Another context in its midst, from where on it is pynetdicom's:
        (lambda command, one, two: [command, one, value(_OTHER, 0, b""), two], [True, True, False, False]),
        # A command in two fragments is pynetdicom's from its beginning:
        (
            lambda command, one, two: [
                value(_IMAGE, COMMAND, command[6:20]),
                value(_IMAGE, COMMAND | LAST, command[20:]),
                one,
                two,
            ],
            [False, False, False, False],
        ),
    ],
)
def test_what_every_sender_sends_goes_the_short_way_and_all_else_pynetdicoms(
    node: tuple[Listener, Records, Path],
    monkeypatch: pytest.MonkeyPatch,
    parts: Callable[[bytes, bytes, bytes], list[bytes]],
    short: list[bool],
) -> None:
    listener, records, folder = node
    went = _recorded(monkeypatch)
    with _associated(listener) as connection:
        for _ in range(2):  # the next one begins anew
            dataset = make_radiograph()
            content = encoded(dataset)
            for part in parts(
                _request(dataset), value(_IMAGE, 0, content[:500]), value(_IMAGE, LAST, content[500:])
            ):
                connection.sendall(pdu(4, part))
            assert _status(read_pdu(connection)[1]) == 0
            assert _kept(records, folder, dataset) == (content, hashlib.sha256(content).hexdigest())
        wait_until(lambda: went == 2 * short, 20, "all of them gone that way")  # noted after the answer


def _recorded(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each PDU went the short way, from now on."""
    went: list[bool] = []
    pass_on = Lane.pass_on

    def recorded(lane: Lane, transport: Transport) -> bool:
        went.append(pass_on(lane, transport))
        return went[-1]

    monkeypatch.setattr(Lane, "pass_on", recorded)
    return went


def test_a_peer_that_takes_only_short_pdus_is_answered_by_pynetdicom(
    node: tuple[Listener, Records, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    listener, _, _ = node
    went = _recorded(monkeypatch)
    entity = AE()
    entity.add_requested_context(DX, ExplicitVRLittleEndian)
    association = entity.associate("127.0.0.1", listener.port, max_pdu=64)
    assert association.send_c_store(make_radiograph()).Status == 0
    association.release()
    assert went and not any(went)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("ending", [b"", b"\x04\0\0\0\0\x20\0\0\0\x1e\x01\0xx", b"\x07\0\0\0\0\x04\0\0\0\0"])
def test_who_leaves_in_the_midst_of_a_dataset_leaves_nothing(
    node: tuple[Listener, Records, Path], ending: bytes
) -> None:
    """The connection closed, in the middle of a fragment, or after an A-ABORT."""
    listener, _, folder = node
    dataset = make_radiograph()
    with _associated(listener) as connection:
        connection.sendall(pdu(4, _request(dataset)) + pdu(4, value(_IMAGE, 0, b"\0" * 500)))
        wait_until(lambda: list((folder / "incoming").iterdir()), 20, "beginning of the file")
        connection.sendall(ending)
    wait_until(lambda: not list((folder / "incoming").iterdir()), 20, "end of the file")


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("ending", [b"", pdu(_ABORT, bytes(4)), pdu(5, bytes(4)), pdu(9, b"??")])
@pytest.mark.parametrize("context", [_IMAGE, _OTHER])
def test_who_leaves_before_the_answer_leaves_nothing(
    node: tuple[Listener, Records, Path], ending: bytes, context: int
) -> None:
    """Of several at once the later ones wait for the first one's answer; ten times, for it is a race."""
    listener, _, folder = node
    threads = threading.active_count()
    for _ in range(10):
        with _associated(listener) as connection:
            for dataset in [make_radiograph() for _ in range(5)]:
                request = command(_STORE, DX, dataset.SOPInstanceUID, True)
                connection.sendall(pdu(4, value(context, COMMAND | LAST, request)))
                connection.sendall(pdu(4, value(context, LAST, encoded(dataset))))
            connection.sendall(ending)
    wait_until(lambda: threading.active_count() <= threads, 20, "end of the associations")
    assert not list((folder / "incoming").iterdir())


@pytest.mark.usefixtures("way")
def test_what_is_no_pdu_in_the_midst_of_a_dataset_is_answered_with_an_abort(
    node: tuple[Listener, Records, Path],
) -> None:
    listener, _, folder = node
    with _associated(listener) as connection:
        connection.sendall(
            pdu(4, _request(make_radiograph())) + pdu(4, value(_IMAGE, 0, b"\0" * 500)) + pdu(9, b"??")
        )
        assert read_pdu(connection)[0] == _ABORT
    wait_until(lambda: not list((folder / "incoming").iterdir()), 20, "end of the file")
