"""Ctrl-C ends a command that waits for a peer at once, whatever the peer is about to do."""

from __future__ import annotations

import signal
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from litegpt.phantoms import phantom_files
from tests.peers.dcmtk import storescp
from tests.processes import running

_SENDS = """
import sys
from pathlib import Path

from service.peers import Destination
from service.settings import settings_without_sources
from worker.demo.modality import find_images, push

port, file = sys.argv[1:]
peer = Destination(ae_title="PEER", host="127.0.0.1", port=int(port))
try:
    list(push(find_images(Path(file))[0], peer, settings_without_sources(data_dir=Path("data"))))
except KeyboardInterrupt:
    sys.exit(130)
"""

AT_ONCE_SECONDS = 15.0
"""An association of pynetdicom's waits 30 s for an answer, and another 30 s for the end."""


def _command(port: int) -> Sequence[str | Path]:
    return [sys.executable, "-c", _SENDS, str(port), phantom_files()[0]]


def test_while_the_peer_does_not_answer_the_request_for_an_association(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(60)
        with running(_command(silent.getsockname()[1]), log=tmp_path / "log") as command:
            connection, _ = silent.accept()
            with connection:
                assert connection.recv(1) == b"\x01"  # an A-ASSOCIATE-RQ begins
                assert command.stop(signal.SIGINT, timeout_seconds=AT_ONCE_SECONDS) == 130
    assert command.output() == ""


@pytest.mark.parametrize("option", ["--sleep-during", "--sleep-after"])
@pytest.mark.parametrize("seconds", [0.0, 0.2])
def test_while_the_peer_does_not_answer_a_c_store_or_its_end(
    option: str, seconds: float, tmp_path: Path
) -> None:
    """At some point of sending, of waiting for the answer, or of waiting for the association's end."""
    with storescp(tmp_path, options=[option, "60"]) as peer:
        with running(_command(peer.port), log=tmp_path / "log") as command:
            command.wait_until(lambda: peer.store_requests() == 1, 60, "the C-STORE at the peer")
            time.sleep(seconds)
            assert command.stop(signal.SIGINT, timeout_seconds=AT_ONCE_SECONDS) == 130
        for asleep in peer.process.descendants():
            asleep.kill()
    assert command.output() == ""
