"""Files in the archive are whole, in their place, and found again."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from service.archive import INCOMING_LEFTOVER_SECONDS, Archive, file_digest
from service.errors import OutOfResources


@pytest.fixture
def small_archive(tmp_path: Path) -> Archive:
    archive = Archive(tmp_path / "archive")
    archive.prepare()
    return archive


def test_an_image_moves_to_a_place_named_by_its_uids(small_archive: Archive) -> None:
    received = small_archive.incoming / "x"
    received.write_bytes(b"image")
    relative = small_archive.take_image(received, "1.2.3", "1.2.3.4", "ab" * 32)
    shard = hashlib.sha256(b"1.2.3").hexdigest()[:2]
    assert relative == f"images/{shard}/1.2.3/1.2.3.4.abababababababab.dcm"
    assert small_archive.absolute(relative).read_bytes() == b"image"
    assert not received.exists()


def test_a_result_reads_back(small_archive: Archive) -> None:
    relative = small_archive.write_result(b"report", "1.2.3", "2.25.7")
    assert small_archive.absolute(relative).read_bytes() == b"report"
    assert list(small_archive.incoming.iterdir()) == []


def test_only_old_leftovers_are_swept(small_archive: Archive) -> None:
    old, young = small_archive.incoming / "old", small_archive.incoming / "young"
    old.touch()
    young.touch()
    before = old.stat().st_mtime - INCOMING_LEFTOVER_SECONDS - 1
    os.utime(old, (before, before))
    assert small_archive.sweep_incoming() == 1
    assert [path.name for path in small_archive.incoming.iterdir()] == ["young"]


def test_a_digest_may_leave_the_beginning_out(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"meta" + b"data" * 500_000)
    assert file_digest(file, 4) == hashlib.sha256(b"data" * 500_000).hexdigest()


def test_a_probe_leaves_nothing_behind(small_archive: Archive) -> None:
    small_archive.probe()
    assert list(small_archive.incoming.iterdir()) == []


def test_an_archive_that_cannot_be_made_is_try_again(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutOfResources, match="Not a directory"):
        Archive(tmp_path / "file" / "archive").prepare()
