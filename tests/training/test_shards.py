"""The store of records: what was committed is there, whatever became of the rest."""

from __future__ import annotations

import hashlib
import pickle
import resource
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from training.shard_writer import ShardWriter
from training.shards import ENTRY, INDEX_FILE, RecordForm, ShardError, Shards, shard_file

FORM = RecordForm("<u2", (2, 3))
TWO_A_SHARD = 2 * FORM.record_bytes


def key(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest()


def record(number: int) -> NDArray[np.uint16]:
    return np.random.default_rng(number).integers(0, 2**16, (2, 3), dtype=np.uint16)


def write(folder: Path, numbers: Sequence[int]) -> None:
    with ShardWriter(folder, FORM, shard_bytes=TWO_A_SHARD) as writer:
        for number in numbers:
            writer.append(key(number), record(number))


def read(folder: Path) -> dict[bytes, bytes]:
    shards = Shards(folder, FORM)
    return {shards.key(number): shards[number].tobytes() for number in range(len(shards))}


def expected(numbers: Sequence[int]) -> dict[bytes, bytes]:
    return {key(number): record(number).tobytes() for number in numbers}


@contextmanager
def fresh_folder() -> Iterator[Path]:
    """For hypothesis, whose examples share a test's ``tmp_path``."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "store"


keys_and_values = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 1000)), max_size=8)


@settings(deadline=None)
@given(st.lists(keys_and_values, max_size=4), st.integers(1, 60))
def test_round_trip_over_several_writers_and_shards(
    sessions: list[list[tuple[int, int]]], shard_bytes: int
) -> None:
    latest: dict[int, int] = {}
    with fresh_folder() as folder:
        for session in sessions:
            with ShardWriter(folder, FORM, shard_bytes=shard_bytes) as writer:
                for which, value in session:
                    writer.append(key(which), record(value))
                    latest[which] = value
        shards = Shards(folder, FORM)
        assert len(shards) == sum(map(len, sessions))
        for which in range(6):
            number = shards.number(key(which))
            if which not in latest:
                assert number is None
            else:
                assert number is not None
                np.testing.assert_array_equal(shards[number], record(latest[which]))
        assert list(shards.damaged()) == []


@settings(deadline=None)
@given(st.integers(0, 5), st.integers(0, 5 * ENTRY.itemsize), st.binary(max_size=60))
def test_a_torn_tail_is_ignored_and_overwritten(written: int, kept: int, garbage: bytes) -> None:
    with fresh_folder() as folder:
        write(folder, range(written))
        index = folder / INDEX_FILE
        whole = index.read_bytes() if index.exists() else b""
        index.write_bytes(whole[:kept])
        with shard_file(folder, written // 2).open("ab") as shard:  # a record without an entry
            shard.write(garbage)
        survivors = min(written, kept // ENTRY.itemsize)
        assert read(folder) == expected(range(survivors))
        write(folder, range(100, 105))
        assert read(folder) == expected([*range(survivors), *range(100, 105)])


@pytest.mark.parametrize("zeroed", [False, True])
def test_a_tail_of_another_content_is_ignored(tmp_path: Path, zeroed: bool) -> None:
    """After a power failure a file may be long enough, and hold zeros or older bytes."""
    write(tmp_path / "s", range(3))
    with (tmp_path / "s" / INDEX_FILE).open("ab") as index:
        index.write(bytes(2 * ENTRY.itemsize) if zeroed else b"\xa5" * (ENTRY.itemsize + 7))
    assert read(tmp_path / "s") == expected(range(3))


def test_every_bit_of_an_entry_counts(tmp_path: Path) -> None:
    write(tmp_path / "s", range(2))
    index = tmp_path / "s" / INDEX_FILE
    whole = index.read_bytes()
    for bit in range(8 * ENTRY.itemsize):
        damaged = bytearray(whole)
        damaged[ENTRY.itemsize + bit // 8] ^= 1 << bit % 8
        index.write_bytes(damaged)
        assert read(tmp_path / "s") == expected(range(1))


def test_a_damaged_entry_before_whole_ones_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "s", range(3))
    index = tmp_path / "s" / INDEX_FILE
    damaged = bytearray(index.read_bytes())
    damaged[ENTRY.itemsize] ^= 1
    index.write_bytes(damaged)
    for open_it in (lambda: Shards(tmp_path / "s", FORM), lambda: ShardWriter(tmp_path / "s", FORM)):
        with pytest.raises(ShardError, match=r"s: index is damaged at entry 1; delete the folder$"):
            open_it()


def test_a_damaged_record_is_named_and_can_be_replaced(tmp_path: Path) -> None:
    write(tmp_path / "s", range(5))
    file = shard_file(tmp_path / "s", 1)
    content = bytearray(file.read_bytes())
    content[-1] ^= 128  # the last byte of record 3
    file.write_bytes(content)
    shards = Shards(tmp_path / "s", FORM)
    assert list(shards.damaged()) == [3]
    np.testing.assert_array_equal(shards[2], record(2))
    with pytest.raises(ShardError, match=r"record 3 is damaged"):
        shards[3]
    write(tmp_path / "s", [3])
    again = Shards(tmp_path / "s", FORM)
    assert list(again.damaged()) == []
    number = again.number(key(3))
    assert number == 5
    np.testing.assert_array_equal(again[number], record(3))


@pytest.mark.parametrize("gone", [False, True])
def test_a_short_or_lost_shard_is_damage(tmp_path: Path, gone: bool) -> None:
    write(tmp_path / "s", range(5))
    file = shard_file(tmp_path / "s", 1)
    file.unlink() if gone else file.write_bytes(file.read_bytes()[:-1])
    shards = Shards(tmp_path / "s", FORM)
    assert list(shards.damaged()) == [2, 3]
    with pytest.raises(ShardError, match=r"shard-00001 cannot be read"):
        shards[2]
    np.testing.assert_array_equal(shards[4], record(4))


def test_a_reader_sees_what_was_there_when_it_opened(tmp_path: Path) -> None:
    write(tmp_path / "s", range(3))
    before = Shards(tmp_path / "s", FORM)
    with ShardWriter(tmp_path / "s", FORM) as writer:
        writer.append(key(3), record(3))
        assert len(Shards(tmp_path / "s", FORM)) == 3
        writer.commit()
        assert read(tmp_path / "s") == expected(range(4))
        assert len(before) == 3
        np.testing.assert_array_equal(before[2], record(2))


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    with (
        ShardWriter(tmp_path / "s", FORM),
        pytest.raises(ShardError, match=r"s: another process is writing to it; wait for it to end$"),
    ):
        ShardWriter(tmp_path / "s", FORM)
    write(tmp_path / "s", range(1))


def test_an_error_keeps_what_was_added_before(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), ShardWriter(tmp_path / "s", FORM) as writer:
        writer.append(key(0), record(0))
        raise KeyboardInterrupt
    assert read(tmp_path / "s") == expected(range(1))


def test_a_copy_for_another_process_is_small(tmp_path: Path) -> None:
    form = RecordForm("|u1", (100, 1000))
    with ShardWriter(tmp_path / "s", form) as writer:
        writer.append(key(0), np.full((100, 1000), 7, np.uint8))
    shards = Shards(tmp_path / "s", form)
    assert shards[0].sum() == 700_000
    assert not shards[0].flags.writeable
    sent = pickle.dumps(shards)
    assert len(sent) < 5000
    assert pickle.loads(sent)[0].sum() == 700_000


def test_other_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "holiday.jpg").touch()
    write(tmp_path / "s", range(1))
    write(tmp_path / "newer", range(1))
    form = tmp_path / "newer" / "store.json"
    form.write_text(form.read_text().replace("shards 1", "shards 2"))
    write(tmp_path / "cut", range(1))
    (tmp_path / "cut" / "store.json").write_text('{"format": "litegpt shards 1"')
    for folder, wanted, words in (
        ("photos", FORM, r"photos: is no cache of ours: it has 'holiday.jpg', and no store.json$"),
        ("s", RecordForm("<u2", (3, 2)), r"s: holds records of 2 × 3 uint16, not records of 3 × 2 uint16"),
        ("newer", FORM, r"newer: holds 'litegpt shards 2', which this version cannot read$"),
        ("cut", FORM, r"cut: store.json is damaged; delete the folder$"),
    ):
        with pytest.raises(ShardError, match=words):
            Shards(tmp_path / folder, wanted)
        with pytest.raises(ShardError, match=words):
            ShardWriter(tmp_path / folder, wanted)
    assert len(Shards(tmp_path / "nowhere", FORM)) == 0
    assert not (tmp_path / "nowhere").exists()


def test_what_is_of_another_form_is_not_taken(tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "s", FORM) as writer:
        with pytest.raises(ValueError, match="a key of 5 bytes"):
            writer.append(b"short", record(0))
        with pytest.raises(ValueError, match="a record of"):
            writer.append(key(0), record(0).astype(np.int16))
        with pytest.raises(ValueError, match="a record of"):
            writer.append(key(0), record(0).T)
    assert read(tmp_path / "s") == {}
    with pytest.raises(IndexError):
        Shards(tmp_path / "s", FORM)[0]


def test_a_full_disk_is_told_in_one_line_and_keeps_the_rest(tmp_path: Path) -> None:
    write(tmp_path / "s", range(4))
    form = RecordForm("|u1", (5000,))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with ShardWriter(tmp_path / "big", form) as writer:
        writer.append(key(0), np.ones(5000, np.uint8))
        writer.commit()
        resource.setrlimit(resource.RLIMIT_FSIZE, (7000, hard))
        try:
            with pytest.raises(ShardError, match=r"big: cannot be written: File too large$"):
                writer.append(key(1), np.ones(5000, np.uint8))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(Shards(tmp_path / "big", form)) == 1
