"""A self-test's study is known by its UID alone, and no other study is taken for one."""

from __future__ import annotations

import uuid

from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import UID, generate_uid

from service.selftest.marks import is_held, is_selftest, new_study_uid


@given(held=st.booleans())
def test_a_new_uid_is_a_uuid_and_says_what_it_is(held: bool) -> None:
    uid = new_study_uid(held=held)
    assert UID(uid).is_valid and len(uid) <= 64
    made = uuid.UUID(int=int(uid.removeprefix("2.25.")))
    assert (made.version, made.variant) == (8, uuid.RFC_4122)
    assert is_selftest(uid) and is_held(uid) is held
    assert new_study_uid(held=held) != uid


@given(number=st.integers(0, 2**128 - 1), version=st.sampled_from([1, 3, 4, 5]))
def test_another_uid_is_none(number: int, version: int) -> None:
    other = uuid.UUID(int=number, version=version).int
    for uid in (f"2.25.{other}", f"1.2.{other}", generate_uid(), f"2.25.{number >> 64}"):
        assert not is_selftest(uid) and not is_held(uid)


def test_odd_text_is_none() -> None:
    good = new_study_uid(held=True)
    for uid in ("", "2.25.", "2.25.x", "2.25.-1", "2.25.²", good.replace("2.25.", "2.26."), f"{good}.1"):
        assert not is_selftest(uid) and not is_held(uid)
