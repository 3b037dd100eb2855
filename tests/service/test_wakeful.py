"""Associations that sleep: nothing is looked at while nothing happens, and what happens does not wait."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pynetdicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.dul import DULServiceProvider

from service.settings import load_settings
from service.wire import wakeful
from service.wire.checkpoint import RestingPlace
from service.wire.listener import Listener
from service.wire.wakeful import TESTED_WITH, WakefulProvider
from tests.images import DX, make_radiograph
from tests.service.conftest import listening_node
from tests.waiting import wait_until

VERIFICATION = "1.2.840.10008.1.1"

pytestmark = pytest.mark.usefixtures("process_settings")


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    settings = load_settings(
        data_dir=tmp_path / "node", dicom_host="127.0.0.1", dicom_port=0, minimum_free_bytes=0
    )
    with listening_node(settings) as (listener, _):
        yield listener


def _associate(listener: Listener) -> Any:
    entity = AE(ae_title="MODALITY")
    entity.add_requested_context(VERIFICATION)
    entity.add_requested_context(DX, ExplicitVRLittleEndian)
    association = entity.associate("127.0.0.1", listener.port, ae_title="LITEGPT")
    assert association.is_established
    return association


def test_this_pynetdicom_is_one_that_may_sleep() -> None:
    """If this fails, read wakeful.py beside the new version's dul.py and association.py before adding it."""
    assert pynetdicom.__version__ in TESTED_WITH


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often the two threads of associations that peers have opened looked around."""
    seen: Counter[str] = Counter()
    at_the_socket, at_the_checkpoint = WakefulProvider._is_transport_event, RestingPlace.wait

    def at_socket(provider: Any) -> bool:
        seen["socket"] += 1
        return at_the_socket(provider)

    def at_checkpoint(place: Any) -> None:
        seen["checkpoint"] += 1
        at_the_checkpoint(place)

    monkeypatch.setattr(WakefulProvider, "_is_transport_event", at_socket)
    monkeypatch.setattr(RestingPlace, "wait", at_checkpoint)
    return seen


def test_an_idle_association_sleeps(listener: Listener, looks: Counter[str]) -> None:
    """pynetdicom's own looks some 500 times in half a second, with each of the two threads."""
    association = _associate(listener)
    looks.clear()
    time.sleep(0.5)
    assert 1 <= looks["socket"] < 20
    assert 1 <= looks["checkpoint"] < 20
    assert association.send_c_echo().Status == 0
    association.release()
    wait_until(lambda: not _theirs(listener), 10, "the association gone")


def _theirs(listener: Listener) -> list[Any]:
    door: Any = listener._plain
    return list(door.active_associations)


def test_it_wakes_for_whatever_comes(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were anything left to the next look, which is made far away here, it would be missed."""
    monkeypatch.setattr(wakeful, "_LOOKS_EVERY_SECONDS", 1000.0)
    association = _associate(listener)
    for _ in range(3):
        assert association.send_c_echo().Status == 0
    assert association.send_c_store(make_radiograph()).Status == 0
    association.release()
    assert association.is_released
    wait_until(lambda: not _theirs(listener), 10, "the association gone")
    aborted = _associate(listener)
    aborted.abort()
    wait_until(lambda: not _theirs(listener), 10, "the aborted association gone")


def test_it_wakes_to_be_ended(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wakeful, "_LOOKS_EVERY_SECONDS", 1000.0)
    association = _associate(listener)
    for one in _theirs(listener):
        one.abort()
    wait_until(lambda: association.is_aborted and not _theirs(listener), 10, "both sides ended")


def test_no_descriptor_stays(listener: Listener) -> None:
    _associate(listener).release()
    wait_until(lambda: not _theirs(listener), 10, "the association gone")
    before = _descriptors()
    for _ in range(10):
        _associate(listener).release()
    wait_until(lambda: _descriptors() <= before, 10, "descriptors given back")


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_with_another_pynetdicom_it_is_as_it_was(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wakeful, "TESTED_WITH", frozenset({"0.0.0"}))
    association = _associate(listener)
    (theirs,) = _theirs(listener)
    assert type(theirs.dul) is DULServiceProvider
    assert association.send_c_store(make_radiograph()).Status == 0
    association.release()
