"""A C-STORE's messages and its file's beginning, beside what pynetdicom and pydicom make of the same."""

from __future__ import annotations

import struct
from io import BytesIO
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import UID, AllTransferSyntaxes
from pynetdicom.dimse_messages import C_STORE_RQ, C_STORE_RSP, DIMSEMessage
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import create_file_meta
from pynetdicom.pdu import P_DATA_TF
from pynetdicom.pdu_primitives import P_DATA

from service.received import FileMeta
from service.wire.store_message import StoreRequest
from tests.fuzz.upper_layer import command, element
from tests.images import DX

uids = st.from_regex(r"[0-9.]{1,64}", fullmatch=True)
valid_uids = st.lists(st.integers(0, 10**9), min_size=2, max_size=6).map(
    lambda parts: ".".join(map(str, parts))
)
numbers = st.integers(0, 0xFFFF)
titles = st.from_regex(r"[A-Z0-9][A-Z0-9 _]{0,14}", fullmatch=True)

_uid_values = st.one_of(uids, st.text(max_size=70)).map(lambda text: text.encode("utf-8"))
_values = st.one_of(
    _uid_values, numbers.map(lambda number: struct.pack("<H", number)), st.binary(max_size=20)
)
_numbers = st.sampled_from([0x0002, 0x0100, 0x0110, 0x0700, 0x0800, 0x1000, 0x1030, 0x1031, 0x0600])


def _primitive(content: bytes) -> Any:
    """What pynetdicom takes a command for; ``None`` where it cannot read it."""
    primitive, message = P_DATA(), DIMSEMessage()
    primitive.presentation_data_value_list = [[1, b"\3" + content]]
    try:
        message.decode_msg(primitive)
        return message.message_to_primitive()
    except Exception:  # noqa: BLE001 - whatever it raises
        return None


@given(
    changed=st.dictionaries(_numbers, st.none() | _values, max_size=3),
    cut=st.integers(0, 60),
    group=st.sampled_from([0, 0, 0, 2]),
)
@example(changed={}, cut=0, group=0)
@example(changed={0x1030: b"NODE\0"}, cut=0, group=0)
@example(changed={0x1000: b"1.2.3 "}, cut=0, group=0)
def test_what_is_read_is_what_pynetdicom_reads(
    changed: dict[int, bytes | None], cut: int, group: int
) -> None:
    elements: dict[int, bytes | None] = {
        0x0002: DX.encode(),
        0x0100: b"\1\0",
        0x0110: b"\7\0",
        0x0700: b"\0\0",
        0x0800: b"\1\0",
        0x1000: b"1.2.3.4",
        **changed,
    }
    content = b"".join(
        element(group if number == 0x0700 else 0, number, value)
        for number, value in sorted(elements.items())
        if value is not None
    )
    content = content[: len(content) - cut]
    request = StoreRequest.read(content)
    if request is None:
        assert changed or cut or group
        return
    primitive = _primitive(content)
    assert isinstance(primitive, C_STORE)
    assert (request.message_id, request.sop_class_uid, request.sop_instance_uid, request.moved_for) == (
        primitive.MessageID,
        primitive.AffectedSOPClassUID,
        primitive.AffectedSOPInstanceUID,
        str(primitive.MoveOriginatorApplicationEntityTitle or "").strip(),
    )


@given(
    message_id=numbers, sop_class=valid_uids, sop_instance=valid_uids, priority=st.integers(0, 2), by=titles
)
def test_what_pynetdicom_sends_is_read(
    message_id: int, sop_class: str, sop_instance: str, priority: int, by: str
) -> None:
    primitive = C_STORE()
    primitive.MessageID, primitive.Priority = message_id, priority
    primitive.AffectedSOPClassUID, primitive.AffectedSOPInstanceUID = UID(sop_class), UID(sop_instance)
    primitive.MoveOriginatorApplicationEntityTitle, primitive.MoveOriginatorMessageID = by, 1
    primitive.DataSet = BytesIO(b"there")
    message = C_STORE_RQ()
    message.primitive_to_message(primitive)
    first = next(iter(message.encode_msg(1, 0)))
    content = first.presentation_data_value_list[0][1][1:]
    assert StoreRequest.read(content) == StoreRequest(message_id, sop_class, sop_instance, by.strip())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0",
        command(0x0001, DX, "1.2.3", False),  # no dataset follows
        command(0x0030, DX, "1.2.3", True),  # a C-ECHO
        command(0x0001, DX, "1.2.3/../x", True),
        command(0x0001, "", "1.2.3", True),
        command(0x0001, DX, "1." * 40, True),
    ],
)
def test_what_is_not_as_it_should_be_is_not_read(content: bytes) -> None:
    assert StoreRequest.read(content) is None


@given(
    context_id=st.integers(0, 127).map(lambda number: 2 * number + 1),
    message_id=numbers,
    sop_class=valid_uids,
    sop_instance=valid_uids,
    status=st.sampled_from([0x0000, 0xA700, 0xA900, 0xC000, 0x0110]),
)
def test_the_reply_is_pynetdicoms_to_the_byte(
    context_id: int, message_id: int, sop_class: str, sop_instance: str, status: int
) -> None:
    primitive = C_STORE()
    primitive.MessageID = primitive.MessageIDBeingRespondedTo = message_id
    primitive.AffectedSOPClassUID, primitive.AffectedSOPInstanceUID = UID(sop_class), UID(sop_instance)
    primitive.Status = status
    message = C_STORE_RSP()
    message.primitive_to_message(primitive)
    (data,) = message.encode_msg(context_id, 16382)
    pdu = P_DATA_TF()
    pdu.from_primitive(data)
    assert StoreRequest(message_id, sop_class, sop_instance).reply(context_id, status) == pdu.encode()


@given(sop_class=valid_uids, sop_instance=valid_uids, syntax=st.sampled_from(AllTransferSyntaxes))
def test_the_file_begins_as_pydicom_would_begin_it(sop_class: str, sop_instance: str, syntax: UID) -> None:
    begins = StoreRequest(1, sop_class, sop_instance).file_begins_with(syntax)
    meta = create_file_meta(
        sop_class_uid=UID(sop_class), sop_instance_uid=UID(sop_instance), transfer_syntax=syntax
    )
    written = BytesIO()
    write_file_meta_info(written, meta)
    assert begins == bytes(128) + b"DICM" + written.getvalue()
    assert dcmread(BytesIO(begins)).file_meta.MediaStorageSOPInstanceUID == sop_instance
    assert FileMeta.read(BytesIO(begins)) == FileMeta(sop_class, sop_instance, syntax, len(begins))
