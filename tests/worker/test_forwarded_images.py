"""Images reach a real storescp as the bytes that came, in the transfer syntax that they came in."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import zlib
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom import Dataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
)

from service.archive import file_digest
from service.eligibility import Eligibility
from service.received import dataset_offset
from service.records.forwarding import Forwarding
from service.records.intake import Receiver
from service.records.overview import DeliveryView
from tests.images import DX, DX_FOR_PROCESSING, make_radiograph
from tests.peers.dcmtk import storescp
from tests.ports import free_port
from tests.service.test_sender import _peer as peer
from tests.worker.conftest import SmallNode, small_node
from tests.worker.test_delivery import SR_2D, _analyse, _courier

SYNTAXES = (
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
    RLELossless,
    JPEGLSLossless,
)


def _node(folder: Path, *to: str, **settings: object) -> SmallNode:
    return small_node(folder, forward_images_to=list(to), **settings)


def _take(node: SmallNode, *images: Dataset) -> list[str]:
    """Receives images as the listener does; returns their studies."""
    _take_files(node, *map(_as_bytes, images))
    return [str(image.StudyInstanceUID) for image in images]


def _as_bytes(image: Dataset) -> bytes:
    file = BytesIO()
    image.save_as(file, enforce_file_format=True)
    return file.getvalue()


def _take_files(node: SmallNode, *contents: bytes) -> None:
    forwarding = Forwarding.of(node.settings)
    receiver = Receiver(node.records, node.archive, Eligibility.of(node.settings), forwarding)
    for number, content in enumerate(contents):
        path = node.archive.incoming / f"{number}.part"
        path.write_bytes(content)
        receiver.take(path, calling_ae_title="CR1")
    node.take()


def _digest(path: Path) -> str:
    return file_digest(path, dataset_offset(path))


def _forwards(node: SmallNode, study: str) -> list[DeliveryView]:
    return [one for one in node.show(study).deliveries if one.is_image]


def test_every_byte_arrives_in_the_syntax_it_came_in_and_only_once(tmp_path: Path) -> None:
    images = [make_radiograph(transfer_syntax=syntax) for syntax in SYNTAXES]
    with storescp(tmp_path / "pacs", ae_title="PACS") as pacs:
        node = _node(tmp_path / "node", pacs.destination, delivery_batch_size=4)
        studies = _take(node, *images)
        assert _courier(node).drain()
        assert _courier(node).drain()
        received = {str(pydicom.dcmread(path).StudyInstanceUID): path for path in pacs.files()}
        assert pacs.store_requests() == len(images)
    for study, syntax in zip(studies, SYNTAXES, strict=True):
        (delivery,) = _forwards(node, study)
        assert (delivery.state, delivery.attempt) == ("sent", 1)
        assert _digest(received[study]) == _digest(node.archive.absolute(delivery.path))
        assert pydicom.dcmread(received[study]).file_meta.TransferSyntaxUID == syntax
    node.records.close()


def test_what_would_be_written_anew_in_another_way_arrives_as_it_came(tmp_path: Path) -> None:
    """pydicom leaves group lengths out (retired, PS3.5 7.2), and deflates in its own way."""
    plain, deflated = (
        make_radiograph(transfer_syntax=syntax)
        for syntax in (ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian)
    )
    name = b"\x10\x00\x10\x00PN"
    length = b"\x10\x00\x00\x00UL\x04\x00\x28\x00\x00\x00"
    with_length = _as_bytes(plain).replace(name, length + name, 1)
    whole = _as_bytes(deflated)
    (tmp_path / "deflated.dcm").write_bytes(whole)
    start = dataset_offset(tmp_path / "deflated.dcm")
    deflater = zlib.compressobj(0, zlib.DEFLATED, -zlib.MAX_WBITS)
    stored = deflater.compress(zlib.decompress(whole[start:], -zlib.MAX_WBITS)) + deflater.flush()
    other_way = whole[:start] + stored + b"\x00" * (len(stored) % 2)
    with storescp(tmp_path / "pacs", ae_title="PACS") as pacs:
        node = _node(tmp_path / "node", pacs.destination)
        _take_files(node, with_length, other_way)
        assert _courier(node).drain()
        received = {str(pydicom.dcmread(path).StudyInstanceUID): path for path in pacs.files()}
    for image, content in ((plain, with_length), (deflated, other_way)):
        (tmp_path / "came.dcm").write_bytes(content)
        assert _digest(received[str(image.StudyInstanceUID)]) == _digest(tmp_path / "came.dcm")
    node.records.close()


def test_images_and_results_go_on_one_association(tmp_path: Path) -> None:
    with storescp(tmp_path / "pacs", ae_title="PACS") as pacs:
        node = _node(tmp_path / "node", pacs.destination, destinations=[pacs.destination])
        (study,) = _take(node, make_radiograph())
        _analyse(node)
        _courier(node).drain()
        assert sorted(str(one.Modality) for one in pacs.datasets()) == ["DX", "SR"]
        assert pacs.process.output().count("Association Received") == 2  # the test's own look is one
    assert node.show(study).outcome == "delivered"
    node.records.close()


def test_what_the_peer_does_not_take_is_refused_with_the_reason_and_not_transcoded(tmp_path: Path) -> None:
    """The peer takes the class, in the default transfer syntaxes alone."""
    with peer(*[0] * 9, sop_class=DX) as destination:
        node = _node(tmp_path / "node", str(destination))
        studies = _take(
            node,
            make_radiograph(transfer_syntax=RLELossless),
            make_radiograph(),
            make_radiograph(sop_class=DX_FOR_PROCESSING),
        )
        assert _courier(node).drain()
    compressed, plain, raw = (_forwards(node, study)[0] for study in studies)
    assert plain.state == "sent"
    for one, what in (
        (compressed, "Digital X-Ray Image Storage - For Presentation in RLE Lossless"),
        (raw, "Digital X-Ray Image Storage - For Processing in Explicit VR Little Endian"),
    ):
        assert one.state == "refused"
        assert one.error == f"{destination} does not take {what}, and images go as they came"
    node.records.close()


@pytest.mark.parametrize("sop_class", [DX, SR_2D])
def test_a_peer_that_takes_nothing_of_it_has_refused(sop_class: str, tmp_path: Path) -> None:
    """Also somebody else's report: it has no simpler form that we could make."""
    with peer(sop_class=DX_FOR_PROCESSING) as destination:
        node = _node(tmp_path / "node", str(destination))
        (study,) = _take(node, make_radiograph(SOPClassUID=UID(sop_class)))
        assert _courier(node).drain()
    (one,) = _forwards(node, study)
    assert (one.state, one.error) == ("refused", f"{destination} takes none of the objects offered")
    node.records.close()


@pytest.mark.parametrize("status", [0xA700, 0x0122], ids=["out-of-resources", "class-not-supported"])
def test_a_status_decides_as_for_results_but_nothing_goes_in_its_place(tmp_path: Path, status: int) -> None:
    with peer(status, 0, sop_class=DX) as destination:
        node = _node(tmp_path / "node", str(destination))
        (study,) = _take(node, make_radiograph())
        assert _courier(node).drain()
    (one,) = _forwards(node, study)
    assert (one.state, one.attempt) == (("sent", 2) if status == 0xA700 else ("refused", 1))
    node.records.close()


# pynetdicom 3.0.4 leaves the socket of a failed connection to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_destination_that_was_away_gets_it_later(tmp_path: Path) -> None:
    port = free_port()
    waits = {"retry_first_seconds": 3600, "retry_maximum_seconds": 3600}
    node = _node(tmp_path / "node", f"PACS@127.0.0.1:{port}", **waits)
    (study,) = _take(node, make_radiograph())
    assert _courier(node).drain()
    (one,) = _forwards(node, study)
    assert (one.state, one.attempt, "does not answer" in one.error) == ("due", 1, True)
    with node.records.writing() as session:
        session.connection().exec_driver_sql("UPDATE delivery SET not_before = '2020-01-01 00:00:00.000000'")
    with storescp(tmp_path / "pacs", ae_title="PACS", port=port) as pacs:
        assert _courier(node).drain()
        assert len(pacs.files()) == 1
    assert _forwards(node, study)[0].state == "sent"
    node.records.close()


def test_what_was_damaged_since_it_came_is_not_passed_on(tmp_path: Path) -> None:
    with storescp(tmp_path / "pacs", ae_title="PACS") as pacs:
        node = _node(tmp_path / "node", pacs.destination)
        whole, damaged = _take(node, make_radiograph(), make_radiograph())
        file = node.archive.absolute(_forwards(node, damaged)[0].path)
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
        assert _courier(node).drain()
        assert [str(one.StudyInstanceUID) for one in pacs.datasets()] == [whole]
    (one,) = _forwards(node, damaged)
    assert (one.state, one.error) == ("refused", f"{file.name} is damaged: it is not what came")
    node.records.close()


def _deliver_and_die(data_dir: Path, to: Sequence[str]) -> None:
    """A worker that is killed when the peer has the image, and before that is written down."""
    from service.records import deliveries

    def die(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    deliveries.sent = die
    logging.disable()
    node = _node(data_dir, *to, delivery_lease_seconds=6)
    _courier(node).drain()


def test_a_worker_that_is_killed_leaves_it_to_the_next(tmp_path: Path) -> None:
    with storescp(tmp_path / "pacs", ae_title="PACS") as pacs:
        node = _node(tmp_path / "node", pacs.destination)
        (study,) = _take(node, make_radiograph())
        worker = multiprocessing.get_context("spawn").Process(
            target=_deliver_and_die, args=(tmp_path / "node", [pacs.destination])
        )
        worker.start()
        worker.join(60)
        assert worker.exitcode == -signal.SIGKILL
        (one,) = _forwards(node, study)
        assert (one.state, one.attempt) == ("due", 1)
        assert _courier(node).drain()  # the lease has not ended
        assert _forwards(node, study)[0].attempt == 1
        with node.records.writing() as session:
            session.connection().exec_driver_sql(
                "UPDATE delivery SET not_before = '2020-01-01 00:00:00.000000'"
            )
        assert _courier(node).drain()
        assert len(pacs.files()) == 1 and pacs.store_requests() == 2
    (one,) = _forwards(node, study)
    assert (one.state, one.attempt) == ("sent", 2)
    node.records.close()
