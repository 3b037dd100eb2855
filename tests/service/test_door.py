"""The listener's door: peers that say nothing, or little, keep nobody out; who may not call is told so."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, AllStoragePresentationContexts, build_role
from pynetdicom.association import Association

from service.peers import Caller
from service.settings import load_settings
from service.wire.antechamber import MOST_SILENT
from service.wire.association import rejection_of
from service.wire.door import LOCAL_LIMIT_EXCEEDED
from service.wire.listener import Listener
from tests.images import DX, make_radiograph
from tests.service.conftest import listening_node
from tests.waiting import wait_until

VERIFICATION = "1.2.840.10008.1.1"


pytestmark = pytest.mark.usefixtures("process_settings")


@contextmanager
def _listening(folder: Path, **values: object) -> Iterator[Listener]:
    address = {"dicom_host": "127.0.0.1", "dicom_port": 0, "minimum_free_bytes": 0}
    with listening_node(load_settings(data_dir=folder / "node", **address, **values)) as (listener, _):
        yield listener


def _connect(listener: Listener, source: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection(("127.0.0.1", listener.port), timeout=10, source_address=(source, 0))


def _associate(
    listener: Listener, *, calling: str = "MODALITY", called: str = "LITEGPT", source: str = "127.0.0.1"
) -> Association:
    entity = AE(ae_title=calling)
    entity.add_requested_context(VERIFICATION)
    entity.add_requested_context(DX, ExplicitVRLittleEndian)
    return entity.associate("127.0.0.1", listener.port, ae_title=called, bind_address=(source, 0))


def _stores(listener: Listener) -> bool:
    association = _associate(listener)
    if not association.is_established:
        return False
    try:
        return bool(association.send_c_store(make_radiograph()).Status == 0)
    finally:
        association.release()


def _is_closed(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def test_hundreds_that_say_nothing_keep_nobody_out(tmp_path: Path) -> None:
    with _listening(tmp_path, maximum_associations=5) as listener, ExitStack() as open_:
        before = threading.active_count()
        silent = [open_.enter_context(_connect(listener)) for _ in range(500)]
        assert _stores(listener)
        wait_until(lambda: all(map(_is_closed, silent[:-MOST_SILENT])), 10, "end of the oldest")
        assert not any(map(_is_closed, silent[1 - MOST_SILENT :]))  # one made room for who stored
        wait_until(lambda: threading.active_count() <= before + 1, 10, "end of the association's threads")


def test_who_says_nothing_is_sent_away(tmp_path: Path) -> None:
    with _listening(tmp_path, acse_timeout_seconds=0.5) as listener, _connect(listener) as silent:
        wait_until(lambda: _is_closed(silent), 10, "a silent peer sent away")


def test_one_address_cannot_take_every_place(tmp_path: Path) -> None:
    """Each has begun a request and goes on by a byte now and then: pynetdicom waits for the rest of it."""
    limits = {"maximum_associations": 8, "maximum_associations_per_address": 6}
    with _listening(tmp_path, **limits) as listener, ExitStack() as open_:
        for _ in range(6):
            slow = open_.enter_context(_connect(listener, "127.0.0.2"))
            slow.sendall(b"\x01\x00")
        wait_until(lambda: _answer_to_one_more(listener) == LOCAL_LIMIT_EXCEEDED, 10, "one too many rejected")
        assert rejection_of(_associate(listener, source="127.0.0.2")) is not None
        assert _stores(listener)


def _answer_to_one_more(listener: Listener) -> bytes:
    with _connect(listener, "127.0.0.2") as one_more:
        one_more.sendall(b"\x01\x00")
        one_more.settimeout(0.5)
        try:
            return one_more.recv(100)
        except TimeoutError:
            return b""


def test_a_listener_that_stops_closes_what_waits(tmp_path: Path) -> None:
    with _listening(tmp_path) as listener:
        silent = _connect(listener)
    with silent:
        assert _is_closed(silent)


@pytest.mark.parametrize(
    ("callers", "calling", "source", "may"),
    [
        ("GOOD", "GOOD", "127.0.0.2", True),
        ("GOOD", "EVIL", "127.0.0.2", False),
        ("GOOD@127.0.0.2", "GOOD", "127.0.0.2", True),
        ("GOOD@127.0.0.2", "GOOD", "127.0.0.3", False),
        ("GOOD@127.0.0.0/30,OTHER", "GOOD", "127.0.0.3", True),
        ("GOOD@127.0.0.0/30,OTHER", "GOOD", "127.0.0.4", False),
        ("GOOD@127.0.0.0/30,OTHER", "OTHER", "127.0.0.4", True),
    ],
)
def test_callers_are_known_by_title_and_address(
    tmp_path: Path, callers: str, calling: str, source: str, may: bool
) -> None:
    with _listening(tmp_path, calling_ae_titles=callers) as listener:
        association = _associate(listener, calling=calling, source=source)
        assert (association.is_established, rejection_of(association) is None) == (may, may)
        if may:
            association.release()


def test_only_the_names_of_ours_are_answered_to_where_they_are_set(tmp_path: Path) -> None:
    with _listening(tmp_path, called_ae_titles="LITEGPT,RESEARCH") as listener:
        association = _associate(listener, called="RESEARCH")
        assert association.is_established
        association.release()
        assert rejection_of(_associate(listener, called="LITEGPT2")) is not None


def test_a_caller_of_ipv4_is_known_on_a_socket_of_ipv6() -> None:
    caller = Caller.parse("CT@10.1.2.0/24")
    assert caller.admits("CT", "::ffff:10.1.2.7") and not caller.admits("CT", "::ffff:10.1.3.7")
    assert not caller.admits("CT", "fe80::1%eth0")
    assert Caller.parse(str(caller)) == caller


@pytest.mark.parametrize("text", ["", "@10.0.0.1", "CT@", "CT@10.0.0.300", "CT@10.0.0.1/24", "A" * 17])
def test_a_caller_that_is_written_otherwise_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a caller is written AET, AET@ADDRESS or AET@NETWORK/BITS"):
        Caller.parse(text)


def test_contexts_that_associations_share_are_changed_by_none(tmp_path: Path) -> None:
    """Whoever offers what roles, and is accepted or not: pynetdicom would copy them for that."""
    with _listening(tmp_path) as listener:
        door = listener._plain
        assert door is not None
        before = [(one.abstract_syntax, list(one.transfer_syntax), vars(one).copy()) for one in door.contexts]
        entity = AE()
        entity.requested_contexts = AllStoragePresentationContexts[:100]
        entity.add_requested_context(VERIFICATION)
        roles = [build_role(str(one.abstract_syntax), True, True) for one in entity.requested_contexts]
        association = entity.associate("127.0.0.1", listener.port, ext_neg=roles)
        assert association.accepted_contexts and association.rejected_contexts
        association.release()
        assert _stores(listener)
        after = [(one.abstract_syntax, list(one.transfer_syntax), vars(one)) for one in door.contexts]
        assert after == before
