"""The table of files and their digests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from training.file_digests import Stamp, add_digests, read_digests
from training.shards import ShardError


def test_round_trip_with_any_name(tmp_path: Path) -> None:
    table = tmp_path / "files.sqlite"
    assert read_digests(table) == {}
    strange = Path(os.fsdecode(b"/data/\xff\xfe'\".dcm"))
    add_digests(table, [(Path("/a"), Stamp(1, 2), b"x" * 32), (strange, Stamp(2**40, 2**62), b"\0" * 32)])
    add_digests(table, [(Path("/a"), Stamp(1, 3), b"y" * 32)])
    assert read_digests(table) == {
        Path("/a"): (Stamp(1, 3), b"y" * 32),
        strange: (Stamp(2**40, 2**62), b"\0" * 32),
    }


def test_damage_is_told_in_one_line(tmp_path: Path) -> None:
    table = tmp_path / "files.sqlite"
    table.write_bytes(b"no database, but long enough to be taken for one " * 100)
    with pytest.raises(ShardError, match=r"files.sqlite: cannot be read .*; delete it$"):
        read_digests(table)
    with pytest.raises(ShardError, match=r"files.sqlite: cannot be written"):
        add_digests(table, [])
