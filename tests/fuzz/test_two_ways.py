"""Whatever is sent on an association, the listener answers the same on the short way and on pynetdicom's."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from service.settings import load_settings
from service.wire.lane import Lane
from service.wire.listener import Listener
from tests.fuzz import EXAMPLES
from tests.fuzz.upper_layer import (
    COMMAND,
    DX,
    LAST,
    VERIFICATION,
    association_request,
    command,
    data,
    element,
    pdu,
    read_pdu,
    value,
)
from tests.images import encoded, make_radiograph
from tests.service.conftest import listening_node, process_settings

__all__ = ["process_settings"]

pytestmark = pytest.mark.timeout(300 + EXAMPLES)

IMAGE, OTHER = 1, 3
CT = "1.2.840.10008.5.1.4.1.1.2"
ABORT = 7
RELEASE = pdu(5, b"\0" * 4)

Step = tuple[bytes, bool]
"""What is sent, and whether it is answered."""


RADIOGRAPH = make_radiograph(rows=8, columns=8)
UID, CONTENT = str(RADIOGRAPH.SOPInstanceUID), encoded(RADIOGRAPH)
UIDS = st.sampled_from([UID, "1.2.3.4", "1.2.3.5"])
CONTENTS = st.sampled_from([CONTENT, CONTENT[:-7], b"", b"\0" * 64, CONTENT + b"\0" * 20])


def _store(
    uid: str, content: bytes, sop_class: str, cuts: Sequence[int], together: bool, more: bytes
) -> Step:
    """A C-STORE, its dataset in fragments that are cut there, a PDU each or all in one."""
    bounds = sorted({0, *(cut % (len(content) + 1) for cut in cuts), len(content)})
    parts = [content[start:end] for start, end in pairwise(bounds)] or [b""]
    values = [
        value(IMAGE, COMMAND | LAST, command(1, sop_class, uid, True) + more),
        *(value(IMAGE, 0, part) for part in parts[:-1]),
        value(IMAGE, LAST, parts[-1]),
    ]
    return (pdu(4, b"".join(values)) if together else b"".join(pdu(4, one) for one in values)), True


_stores: SearchStrategy[Step] = st.builds(
    _store,
    UIDS,
    CONTENTS,
    st.sampled_from([DX, DX, DX, CT]),
    st.lists(st.integers(0, 10**4), max_size=4),
    st.booleans(),
    st.sampled_from([b"", b"", element(0, 0x1030, b"NODE"), element(0, 0x1031, b"\1\0")]),
)
_without_priority = command(1, DX, "1.2.3.4", True).replace(element(0, 0x0700, b"\0\0"), b"")
_split = command(1, DX, "1.2.3.4", True)
_others: SearchStrategy[Step] = st.sampled_from(
    [
        (data(OTHER, COMMAND | LAST, command(0x0030, VERIFICATION, "", False)), True),  # C-ECHO
        (data(IMAGE, COMMAND | LAST, command(1, DX, "1.2.3.4", True)), False),  # and no dataset
        (data(IMAGE, COMMAND, _split[:30]) + data(IMAGE, COMMAND | LAST, _split[30:]), False),
        (data(IMAGE, 0, b"nothing asked for"), False),
        (data(IMAGE, COMMAND | LAST, _without_priority) + data(IMAGE, LAST, CONTENT), True),
        (pdu(4, b""), False),
        (data(IMAGE, 0, b"", length=1), False),
        (data(IMAGE, 0, b"xx", length=400), False),
        (pdu(9, b"??"), False),
        (pdu(7, b"\0" * 4), False),
        (struct.pack(">BBI", 4, 0, 50) + b"short", False),
    ]
)


@pytest.fixture
def listener(tmp_path: Path, process_settings: None) -> Iterator[Listener]:
    address = {"dicom_host": "127.0.0.1", "dicom_port": 0, "minimum_free_bytes": 0}
    patience = {"acse_timeout_seconds": 10, "network_timeout_seconds": 20, "pdu_timeout_seconds": 2}
    with listening_node(load_settings(data_dir=tmp_path / "node", **address, **patience)) as (listener, _):
        yield listener


def _answers(listener: Listener, steps: Sequence[Step]) -> list[tuple[int, bytes]]:
    """What comes back on one association, but for an abort: more that is on its way to who closes the
    connection may cost its last words (RFC 1122 4.2.2.13). No A-RELEASE-RP shows it, too."""
    answers = []
    with socket.create_connection(("127.0.0.1", listener.port), timeout=30) as peer:
        peer.sendall(pdu(1, association_request()))
        assert read_pdu(peer)[0] == 2
        try:
            for content, is_answered in steps:
                peer.sendall(content)
                if is_answered:
                    answers.append(read_pdu(peer))
            peer.sendall(RELEASE)
            while True:
                answers.append(read_pdu(peer))
        except OSError:
            return [answer for answer in answers if answer[0] != ABORT]


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=st.lists(_stores | _stores | _others, min_size=1, max_size=5))
@example(steps=[_store(UID, CONTENT, DX, [100, 200], together=False, more=b"")])
def test_both_ways_answer_alike(listener: Listener, steps: list[Step]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Lane, "pass_on", lambda *_: False)
        expected = _answers(listener, steps)
    answers = _answers(listener, steps)
    event(f"{len(answers)} answers, the last of type {answers[-1][0] if answers else None}")
    assert answers == expected
