"""What a peer answers becomes "try again" or "never again": dcmtk's storescp, and peers that refuse."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, _config, evt
from pynetdicom.events import Event
from pynetdicom.transport import AssociationSocket

from service.errors import PeerRefused, PeerUnavailable
from service.peers import Destination
from service.settings import load_settings
from service.wire import statuses
from service.wire.sender import Sender, image_contexts, result_contexts
from tests.images import CR, DX, make_radiograph
from tests.peers.dcmtk import storescp
from tests.ports import free_port
from tests.waiting import wait_until

SENDER = Sender(
    load_settings(acse_timeout_seconds=5, dimse_timeout_seconds=2, connect_timeout_seconds=2, ae_title="US")
)


@contextmanager
def _peer(*answers: int, sop_class: str = DX, **attributes: object) -> Iterator[Destination]:
    """A peer that answers one C-STORE after the other with these statuses; 0xFFFF hangs up instead."""
    remaining = list(answers)

    def answer(event: Event) -> int:
        status = remaining.pop(0)
        if status == 0xFFFF:
            event.assoc.abort()
        return status

    entity = AE(ae_title="PEER")
    entity.add_supported_context(sop_class)
    for name, value in attributes.items():
        setattr(entity, name, value)
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, answer)])
    assert server is not None
    try:
        yield Destination(ae_title="PEER", host="127.0.0.1", port=server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.dcm"
    make_radiograph().save_as(path, enforce_file_format=True)
    return path


def _store(destination: Destination, path: Path) -> None:
    with SENDER.associate(destination, result_contexts([DX])) as connection:
        connection.store(path)


def test_many_objects_go_on_one_association(tmp_path: Path) -> None:
    images = [make_radiograph() for _ in range(30)]
    with storescp(tmp_path / "pacs", ae_title="PACS") as pacs:
        destination = Destination(ae_title="PACS", host="127.0.0.1", port=pacs.port)
        SENDER.echo(destination)
        with SENDER.associate(destination, result_contexts([DX, DX])) as connection:
            for number, dataset in enumerate(images):
                path = tmp_path / f"{number}.dcm"
                dataset.save_as(path, enforce_file_format=True)
                connection.store(path)
        stored = {str(dataset.SOPInstanceUID): dataset for dataset in pacs.datasets()}
    assert {uid: dataset.PixelData for uid, dataset in stored.items()} == {
        str(dataset.SOPInstanceUID): dataset.PixelData for dataset in images
    }


@pytest.mark.parametrize("status", [0x0000, 0xB000, 0xB006, 0xB007])
def test_success_and_warnings_are_accepted(image: Path, status: int) -> None:
    with _peer(status) as destination:
        _store(destination, image)


@pytest.mark.parametrize("status", [0xA700, 0xA701, 0x0110, 0x0213])
def test_a_peer_in_trouble_is_tried_again(image: Path, status: int) -> None:
    with _peer(status) as destination, pytest.raises(PeerUnavailable, match=f"{status:04X}: not now"):
        _store(destination, image)


@pytest.mark.parametrize("status", [0xA900, 0xC000, 0xC123, 0x0122, 0x0124, 0x0117])
def test_an_object_that_is_not_wanted_is_not_sent_again(image: Path, status: int) -> None:
    with _peer(status) as destination, pytest.raises(PeerRefused, match=f"{status:04X}: refused"):
        _store(destination, image)


def test_a_peer_that_hangs_up_is_tried_again(image: Path) -> None:
    with _peer(0xFFFF) as destination, pytest.raises(PeerUnavailable, match="no reply"):
        _store(destination, image)


# pynetdicom 3.0.4 leaves the socket of a failed connection to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_nobody_there_is_tried_again(image: Path) -> None:
    nobody = Destination(ae_title="PACS", host="127.0.0.1", port=free_port())
    with pytest.raises(PeerUnavailable, match="does not answer"):
        _store(nobody, image)


def test_a_host_whose_name_is_not_known_is_tried_again(image: Path) -> None:
    nowhere = Destination(ae_title="PACS", host="nowhere.invalid", port=104)
    with pytest.raises(PeerUnavailable, match="the host's name is not known"):
        _store(nowhere, image)


def test_a_name_that_the_peer_does_not_know_is_refused_for_good(image: Path) -> None:
    with (
        _peer(require_calling_aet=["SOMEBODY"]) as destination,
        pytest.raises(PeerRefused, match=r"rejects our association: .*calling.ae.title not recognised"),
    ):
        _store(destination, image)


class _LatelyReady(threading.Event):
    """By the time that its waiter goes on, the connection that was made is closed again."""

    def __init__(self, connection: AssociationSocket) -> None:
        super().__init__()
        self._connection = connection

    def wait(self, timeout: float | None = None) -> bool:
        super().wait(timeout)
        return wait_until(lambda: not self._connection._is_connected, 10, "the connection closed")


def test_a_rejection_that_comes_at_once_is_heard(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where this machine is busy, the connection is closed before pynetdicom looks whether it was made."""
    make = AssociationSocket.__init__

    def make_late(self: AssociationSocket, *arguments: Any, **named: Any) -> None:
        make(self, *arguments, **named)
        if "address" in named:  # ours, not the peer's
            self._ready = _LatelyReady(self)

    monkeypatch.setattr(AssociationSocket, "__init__", make_late)
    with (
        _peer(require_calling_aet=["SOMEBODY"]) as destination,
        pytest.raises(PeerRefused, match=r"rejects our association: .*calling.ae.title not recognised"),
    ):
        _store(destination, image)


def test_a_peer_that_is_too_busy_is_tried_again(image: Path) -> None:
    with (
        _peer(maximum_associations=1) as destination,
        SENDER.associate(destination, result_contexts([DX])),
        pytest.raises(PeerUnavailable, match="rejects our association for now"),
    ):
        _store(destination, image)


def test_a_peer_that_takes_no_such_object_has_refused(image: Path) -> None:
    with _peer(sop_class=CR) as destination, pytest.raises(PeerRefused, match="takes none of the objects"):
        _store(destination, image)


def test_a_peer_that_takes_other_objects_has_refused_this_one(image: Path) -> None:
    with _peer(sop_class=CR) as destination:
        contexts = [(CR, [ExplicitVRLittleEndian]), (DX, [ExplicitVRLittleEndian])]
        with (
            SENDER.associate(destination, contexts) as connection,
            pytest.raises(PeerRefused, match="does not take Digital X-Ray Image Storage"),
        ):
            connection.store(image)


def test_every_status_is_accepted_transient_or_permanent() -> None:
    for status in range(0x10000):
        assert not (statuses.is_accepted(status) and statuses.is_transient(status))
    assert statuses.status_of(ValueError()) == 0xA701


def test_a_process_that_would_encode_images_anew_forwards_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = make_radiograph()
    image.save_as(tmp_path / "image.dcm", enforce_file_format=True)
    monkeypatch.setattr(_config, "STORE_SEND_CHUNKED_DATASET", False)
    contexts = image_contexts([(DX, image.file_meta.TransferSyntaxUID)])
    with (
        _peer(0) as peer,
        SENDER.associate(peer, contexts) as connection,
        pytest.raises(RuntimeError, match="encoded anew"),
    ):
        connection.forward(tmp_path / "image.dcm", "")
