"""Files in the archive are whole, in their place, and found again."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
from pydicom.uid import UID

from service.archive import INCOMING_LEFTOVER_SECONDS, Archive, file_digest
from service.errors import OutOfResources
from tests.archived import write_result


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
    relative = write_result(small_archive, b"report", "1.2.3", "2.25.7")
    assert small_archive.absolute(relative).read_bytes() == b"report"
    other = write_result(small_archive, b"another report", "1.2.3", "2.25.7")
    assert small_archive.absolute(relative).read_bytes() == b"report", "a late worker wrote over it"
    assert small_archive.absolute(other).read_bytes() == b"another report"
    assert list(small_archive.incoming.iterdir()) == []


def test_only_old_leftovers_are_swept(small_archive: Archive) -> None:
    old, young = small_archive.incoming / "old", small_archive.incoming / "young"
    old.touch()
    young.touch()
    before = old.stat().st_mtime - INCOMING_LEFTOVER_SECONDS - 1
    os.utime(old, (before, before))
    assert small_archive.sweep_incoming() == 1
    assert [path.name for path in small_archive.incoming.iterdir()] == ["young"]


def test_a_file_that_moves_away_does_not_stop_the_sweep(
    small_archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, old = small_archive.incoming / "gone", small_archive.incoming / "old"
    old.touch()
    os.utime(old, (0, 0))
    monkeypatch.setattr(Path, "iterdir", lambda _: iter([gone, old]))
    assert small_archive.sweep_incoming() == 1


def test_an_installation_has_one_uid_for_good(small_archive: Archive, tmp_path: Path) -> None:
    uid = small_archive.station_uid()
    assert UID(uid).is_valid
    assert Archive(small_archive.root).station_uid() == uid
    other = Archive(tmp_path / "other")
    other.prepare()
    assert other.station_uid() != uid


def test_an_image_is_on_disk_before_it_has_its_name_and_its_name_before_it_counts(
    small_archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What survives a power cut: sync the file, rename it, sync the folder; new folders likewise."""
    steps: list[str] = []
    sync, rename, make = os.fsync, Path.rename, Path.mkdir

    def recorded_sync(descriptor: int) -> None:
        steps.append(f"sync {Path(f'/proc/self/fd/{descriptor}').readlink().name}")
        sync(descriptor)

    def recorded_rename(self: Path, target: Path) -> Path:
        steps.append(f"rename {target.name}")
        return rename(self, target)

    def recorded_make(self: Path, *arguments: Any, **keywords: Any) -> None:
        steps.append(f"make {self.name}")
        make(self, *arguments, **keywords)

    monkeypatch.setattr(os, "fsync", recorded_sync)
    monkeypatch.setattr(Path, "rename", recorded_rename)
    monkeypatch.setattr(Path, "mkdir", recorded_make)
    received = small_archive.incoming / "received"
    received.write_bytes(b"image")
    relative = small_archive.take_image(received, "1.2.3", "1.2.3.4", "ab" * 32)
    name, shard = Path(relative).name, Path(relative).parent.parent.name
    assert steps == [
        "sync received",
        f"make {shard}",
        "sync images",
        "make 1.2.3",
        f"sync {shard}",
        f"rename {name}",
        "sync 1.2.3",
    ]


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
