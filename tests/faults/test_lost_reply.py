"""A reply to a C-STORE that does not come: the same object again, never a loss and never a second one.

``LITEGPT_TEST_SENDS=2000`` sends that many reports over few associations, to see whether any reply is lost on
the way through pynetdicom (docs/reliability.md).
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from service.peers import Destination
from service.settings import load_settings
from service.wire.sender import Sender, configure_process, result_contexts
from tests.peers.dcmtk import storescp
from tests.worker.test_delivery import SR, _analysed, _courier

SENDS = int(os.environ.get("LITEGPT_TEST_SENDS", "300"))
ON_ONE_ASSOCIATION = 200
"""As many as in the runs in which pynetdicom by itself lost replies."""

_P_DATA = 4
_HEADER_BYTES = 6

pytestmark = pytest.mark.timeout(300 + SENDS / 10)


def test_no_reply_is_lost(tmp_path: Path) -> None:
    configure_process()
    files = [_report(tmp_path / "reports", number) for number in range(SENDS)]
    with storescp(tmp_path / "pacs", ae_title="PACS") as pacs:
        sender = Sender(load_settings(data_dir=tmp_path, dimse_timeout_seconds=10))
        begun = time.monotonic()
        for first in range(0, SENDS, ON_ONE_ASSOCIATION):
            with sender.associate(Destination.parse(pacs.destination), result_contexts([SR])) as connection:
                for file in files[first : first + ON_ONE_ASSOCIATION]:
                    assert connection.store(file) == 0
        print(f"\n{SENDS} reports in {time.monotonic() - begun:.1f} s")
        assert pacs.store_requests() == SENDS == len(list(pacs.folder.iterdir()))


def _report(folder: Path, number: int) -> Path:
    """A small object of a report's class: what is in it is nothing to the wire."""
    folder.mkdir(exist_ok=True)
    report = Dataset()
    report.SOPClassUID, report.SOPInstanceUID = SR, generate_uid()
    report.StudyInstanceUID, report.SeriesInstanceUID = generate_uid(), generate_uid()
    report.ContentLabel, report.UnformattedTextValue = "SMALL", "." * 10_000
    report.ensure_file_meta()
    report.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = folder / f"{number:05d}.dcm"
    report.save_as(file, enforce_file_format=True)
    return file


def test_a_reply_that_is_cut_off_is_a_second_sending_of_the_same_object(tmp_path: Path) -> None:
    with storescp(tmp_path / "pacs", ae_title="PACS") as pacs, _cutting(pacs.port, replies=1) as port:
        destination = f"PACS@127.0.0.1:{port}"
        waits = {"retry_first_seconds": 0, "retry_maximum_seconds": 0}
        node, studies = _analysed(tmp_path / "node", destination, count=2, **waits)
        for _ in range(3):
            _courier(node).drain()
        views = [node.show(study) for study in studies]
        received = Counter(str(dataset.SOPInstanceUID) for dataset in pacs.datasets())
        assert pacs.store_requests() == 3
    node.records.close()
    assert {view.outcome for view in views} == {"delivered"}
    deliveries = [view.deliveries[0] for view in views]
    assert received == Counter(
        str(dcmread(node.archive.absolute(one.path)).SOPInstanceUID) for one in deliveries
    )
    outcomes = [[attempt.outcome for attempt in delivery.attempts or ()] for delivery in deliveries]
    assert [one[-1] for one in outcomes] == ["sent", "sent"] and sum(map(len, outcomes)) > 2


@contextmanager
def _cutting(to_port: int, *, replies: int) -> Iterator[int]:
    """A port from which all goes to another; it ends so many connections as the peer replies to a C-STORE."""
    left = threading.Semaphore(replies)
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_accept, args=(server, to_port, left), daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


def _accept(server: socket.socket, to_port: int, left: threading.Semaphore) -> None:
    with suppress(OSError):
        while True:
            node, _ = server.accept()
            peer = socket.create_connection(("127.0.0.1", to_port))
            for way in ((node, peer, None), (peer, node, left)):
                threading.Thread(target=_pass_on, args=way, daemon=True).start()


def _pass_on(source: socket.socket, target: socket.socket, left: threading.Semaphore | None) -> None:
    """PDU by PDU, until one of a peer's data is not passed on."""
    with suppress(OSError), source, target, source.makefile("rb") as stream:
        while header := stream.read(_HEADER_BYTES):
            if left is not None and header[0] == _P_DATA and left.acquire(blocking=False):
                break
            target.sendall(header + stream.read(int.from_bytes(header[2:], "big")))
        for end in (source, target):
            end.shutdown(socket.SHUT_RDWR)
