"""An operation begins only when the reactor stands still, however short a moment ago it was let go, and waits
for nothing from a peer that has gone."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.association import Association

from service.peers import Destination
from service.settings import Settings, settings_without_sources
from service.wire.association import associated
from service.wire.checkpoint import Checkpoint, Messages
from tests.images import make_radiograph
from tests.waiting import wait_until

AT_ONCE_SECONDS = 20.0
"""The reply of a peer that is silent is waited for three times as long, an association's end a half more."""


class Reactor(threading.Thread):
    """Goes round as pynetdicom's does: past the checkpoint, then takes what there is."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.rounds = 0
        self.is_established = True
        association: Any = self
        self.checkpoint = Checkpoint(association)

    def run(self) -> None:
        while self.is_established:
            self.checkpoint.wait()
            self.rounds += 1


def test_a_reactor_that_was_just_let_go_stands_still_again() -> None:
    reactor = Reactor()
    reactor.start()
    for _ in range(3000):
        reactor.checkpoint.clear()
        before = reactor.rounds
        time.sleep(0)  # lets the reactor run, if it can
        assert reactor.rounds == before
        reactor.checkpoint.set()
    reactor.is_established = False
    reactor.join(10)
    assert reactor.rounds > 0 and not reactor.is_alive()
    with pytest.raises(RuntimeError):  # nobody is there to wait for
        reactor.checkpoint.clear()


@contextmanager
def _peer() -> Iterator[tuple[Destination, Queue[Association]]]:
    """One who takes radiographs, and its associations."""
    entity, associations = AE(ae_title="PEER"), Queue[Association]()
    entity.add_supported_context(DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian)
    server: Any = entity.start_server(
        ("127.0.0.1", 0),
        block=False,
        evt_handlers=[(evt.EVT_ESTABLISHED, lambda event: associations.put(event.assoc))],
    )
    try:
        yield Destination(ae_title="PEER", host="127.0.0.1", port=server.server_address[1]), associations
    finally:
        server.shutdown()


def _close(peer: Association) -> None:
    peer.dul.socket.socket.shutdown(socket.SHUT_RDWR)  # type: ignore[union-attr]


def _go(
    end: Callable[[Association], None], associations: Queue[Association], association: Association
) -> None:
    """The peer ends the association, and ours has learned of it."""
    if association.is_established:
        end(associations.get(timeout=20))
        wait_until(lambda: not association.is_established, 20, "the end")


class _Pixels(BytesIO):
    """Something happens as they are read, which is while the object is encoded."""

    happens: Callable[[], None]

    def read(self, size: int | None = -1) -> bytes:
        self.happens()
        return super().read(size)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_without_sources(data_dir=tmp_path)


@pytest.mark.parametrize("end", [Association.abort, _close, Association.release])
def test_a_peer_that_ends_while_an_object_is_encoded_is_not_waited_for(
    end: Callable[[Association], None], settings: Settings
) -> None:
    image = make_radiograph()
    pixels = _Pixels(image.PixelData)
    contexts = [(image.SOPClassUID, [ExplicitVRLittleEndian])]
    with _peer() as (peer, associations):
        begun = time.monotonic()
        with associated(settings, peer, contexts) as association:
            pixels.happens = partial(_go, end, associations, association)
            image.PixelData = pixels
            with pytest.raises(RuntimeError, match="ended"):
                association.send_c_store(image)
        assert time.monotonic() - begun < AT_ONCE_SECONDS


@pytest.mark.parametrize("end", [Association.abort, _close, Association.release])
def test_nor_is_its_answer_to_our_release(end: Callable[[Association], None], settings: Settings) -> None:
    with _peer() as (peer, associations):
        begun = time.monotonic()
        with associated(
            settings, peer, [(DigitalXRayImageStorageForPresentation, [ExplicitVRLittleEndian])]
        ) as association:
            # The checkpoint is closed while the reactor learns of the end, as in the midst of ``release``.
            checkpoint: Any = association._reactor_checkpoint
            stands = checkpoint.clear
            checkpoint.clear = lambda: (_go(end, associations, association), stands())
        assert time.monotonic() - begun < AT_ONCE_SECONDS


def test_the_word_of_the_end_is_for_all_who_ask() -> None:
    messages = Messages()
    for message in [(1, "one"), (3, "two"), (None, None)]:
        messages.put(message)
    assert [messages.get(block=False) for _ in range(4)] == [(1, "one"), (3, "two"), *2 * [(None, None)]]
