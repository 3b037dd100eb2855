"""Whatever a connection brings, the listener answers the next one, and keeps nothing of the last."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, example, given, settings

from service.settings import load_settings
from service.wire.listener import Listener
from tests.fuzz import EXAMPLES
from tests.fuzz.upper_layer import association_request, command, conversations, data, pdu
from tests.peers.dcmtk import echoscu
from tests.service.conftest import listening_node, process_settings
from tests.waiting import wait_until

__all__ = ["process_settings"]

pytestmark = pytest.mark.timeout(300 + EXAMPLES)

REQUEST = pdu(1, association_request())
ECHO = data(3, 3, command(0x0030, "1.2.840.10008.1.1", "", False))
RELEASE = pdu(5, b"\0" * 4)
ANSWER = b"\x30\x80"
"""The command field of a C-ECHO-RSP."""


@pytest.fixture
def listener(tmp_path: Path, process_settings: None) -> Iterator[Listener]:
    node = load_settings(
        data_dir=tmp_path / "node",
        dicom_host="127.0.0.1",
        dicom_port=0,
        minimum_free_bytes=0,
        # Long enough for a machine that is busy, and room for what has not ended meanwhile.
        acse_timeout_seconds=10,
        network_timeout_seconds=5,
        maximum_associations=400,
        maximum_associations_per_address=200,
        dimse_timeout_seconds=2,
    )
    with listening_node(node) as (listener, _):
        yield listener


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(conversation=conversations)
@example(conversation=(REQUEST, ECHO))
@example(conversation=(REQUEST + ECHO, b""))
@example(conversation=(b"", b""))
@example(conversation=(pdu(1, association_request([(1, "1.2.3", [])])), b""))
def _bring(listener: Listener, conversation: tuple[bytes, bytes]) -> None:
    with socket.create_connection(
        ("127.0.0.1", listener.port), timeout=0.1, source_address=("127.0.0.2", 0)
    ) as peer:
        for part in conversation:
            with suppress(OSError):
                peer.sendall(part)
                peer.recv(65536)
    _require_an_echo(listener)


def _require_an_echo(listener: Listener) -> None:
    with socket.create_connection(("127.0.0.1", listener.port), timeout=30) as peer:
        peer.sendall(REQUEST)
        accepted = peer.recv(65536)
        assert accepted[:1] == b"\x02", accepted
        peer.sendall(ECHO)
        assert ANSWER in peer.recv(65536)
        peer.sendall(RELEASE)
        assert peer.recv(65536)[:1] == b"\x06"


def test_whatever_comes_the_next_one_is_answered(
    listener: Listener, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    threads, files = threading.active_count(), _open_files()
    _bring(listener)
    wait_until(lambda: threading.active_count() <= threads, 30, "end of all associations' threads")
    assert _open_files() <= files + 2
    assert list((tmp_path / "node" / "incoming").iterdir()) == []
    assert echoscu(listener.port).succeeded
    assert not [record for record in caplog.records if record.name.startswith("service") and record.exc_info]


def _open_files() -> int:
    return psutil.Process(os.getpid()).num_fds()
