"""Zip files that are damaged, hostile or odd: each member is accounted for, and none becomes a path."""

from __future__ import annotations

import io
import struct
import subprocess
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydicom import Dataset

from service.importing import sources
from service.importing.sources import find
from tests.images import make_radiograph
from tests.presence import find_program
from tests.service.import_command import outcomes, save, stored, take_all
from tests.worker.conftest import SmallNode, small_node


@pytest.fixture
def node(tmp_path: Path) -> Iterator[SmallNode]:
    small = small_node(tmp_path / "node-data", minimum_free_bytes=0)
    small.bell.close()
    yield small
    small.records.close()


def _bytes(dataset: Dataset) -> bytes:
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


@dataclass
class Entry:
    """A member as it stands in a zip file, true or not (APPNOTE 4.3.7, 4.3.12)."""

    name: bytes
    content: bytes
    size: int
    crc: int = 0
    method: int = zipfile.ZIP_DEFLATED
    flags: int = 0
    at: int | None = None
    """Offset of its local header, where that is another's."""

    def header(self, *, local: bool) -> bytes:
        fields = (self.flags, self.method, 0, 0x21, self.crc, len(self.content), self.size, len(self.name), 0)
        if local:
            return struct.pack("<4sHHHHHIIIHH", b"PK\x03\x04", 20, *fields) + self.name
        return struct.pack("<4sHHHHHHIIIHH", b"PK\x01\x02", 20, 20, *fields) + struct.pack(
            "<HHHII", 0, 0, 0, 0, self.at or 0
        )


def _write_zip(path: Path, *entries: Entry) -> Path:
    """By hand: zipfile writes no lies."""
    body = b""
    for entry in entries:
        if entry.at is None:
            entry.at = len(body)
            body += entry.header(local=True) + entry.content
    directory = b"".join(entry.header(local=False) + entry.name for entry in entries)
    end = struct.pack(
        "<4sHHHHIIH", b"PK\x05\x06", 0, 0, len(entries), len(entries), len(directory), len(body), 0
    )
    path.write_bytes(body + directory + end)
    return path


def _deflated(content: bytes) -> bytes:
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflater.compress(content) + deflater.flush()


def _zeros(beginning: bytes, size: int) -> Entry:
    """A member of ``size`` bytes that is a beginning and then zeros; 16 MiB are deflated, again and again."""
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    start = deflater.compress(beginning) + deflater.flush(zlib.Z_FULL_FLUSH)
    block = deflater.compress(bytes(16 << 20)) + deflater.flush(zlib.Z_FULL_FLUSH)
    content = start + block * ((size - len(beginning)) // (16 << 20) + 1) + deflater.flush()
    return Entry(b"zeros.dcm", content, size)


def test_a_bomb_of_3_gb_is_not_inflated(node: SmallNode, tmp_path: Path) -> None:
    image = _bytes(make_radiograph())
    bomb = _write_zip(tmp_path / "bomb.zip", _zeros(image[:400], 3_000_000_000), _true(b"good.dcm", image))
    assert bomb.stat().st_size < 4_000_000
    good, zeros = take_all(node, bomb)
    assert (good.outcome, zeros.outcome) == ("taken", "unreadable")
    assert zeros.reason == "it inflates to more than an image, or a zip file of images, can be"


def test_a_bomb_that_lies_about_its_size_is_damaged(node: SmallNode, tmp_path: Path) -> None:
    image = _bytes(make_radiograph())
    bomb = _zeros(image[:-1000], 3_000_000_000)
    bomb.size = len(image)
    (taken,) = take_all(node, _write_zip(tmp_path / "bomb.zip", bomb))
    assert (taken.outcome, taken.reason) == (
        "unreadable",
        "damaged in its zip file: Bad CRC-32 for file 'zeros.dcm'",
    )


def _true(name: bytes, content: bytes) -> Entry:
    return Entry(name, _deflated(content), len(content), zlib.crc32(content))


def test_zeros_that_are_no_dicom_are_not_inflated_either(node: SmallNode, tmp_path: Path) -> None:
    (zeros,) = take_all(node, _write_zip(tmp_path / "zeros.zip", _zeros(b"", 3_000_000_000)))
    assert zeros.outcome == "not DICOM"


def test_members_that_together_are_too_much(
    node: SmallNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "INFLATION_ALLOWED", 1 << 20)
    monkeypatch.setattr(sources, "MAXIMUM_INFLATION", 1)
    images = [make_radiograph(rows=400, columns=400, bits_stored=16) for _ in range(6)]
    for image in images:
        image.PixelData = bytes(len(image.PixelData))  # 320 kB that deflate to next to nothing
    for name in ("one.zip", "other.zip"):  # each has an allowance of its own
        with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as archive:
            for number, image in enumerate(images):
                archive.writestr(f"{number}.dcm", _bytes(image))
    taken = take_all(node, tmp_path / "one.zip", tmp_path / "other.zip")
    assert outcomes(taken) == ["taken"] * 3 + ["unreadable"] * 3 + ["duplicate"] * 3 + ["unreadable"] * 3


def test_members_that_overlap(node: SmallNode, tmp_path: Path) -> None:
    """Newer versions of zipfile refuse them, older ones read the same bytes again: either is in order."""
    first = _true(b"same.dcm", _bytes(make_radiograph()))
    again = [Entry(first.name, first.content, first.size, first.crc, at=0) for _ in range(20)]
    taken = outcomes(take_all(node, _write_zip(tmp_path / "overlap.zip", first, *again)))
    assert len(taken) == 21 and set(taken) <= {"taken", "duplicate", "unreadable"}
    assert len(stored(node.records)) <= 1


@pytest.mark.parametrize(
    "name",
    [
        "../../outside.dcm",
        "{}/outside.dcm",
        "..\\..\\outside.dcm",
        "a\nb\x1b[31m.dcm",
        '"; rm -rf *',
        "ü/ß.dcm",
    ],
)
def test_a_members_name_never_becomes_a_path(node: SmallNode, tmp_path: Path, name: str) -> None:
    name = name.format(tmp_path)
    image = make_radiograph()
    (tmp_path / "some").mkdir()
    with zipfile.ZipFile(tmp_path / "some" / "file.zip", "w") as archive:
        archive.writestr(name, _bytes(image))
    before = _files(tmp_path)
    (taken,) = take_all(node, tmp_path / "some")
    assert taken.outcome == "taken" and taken.name.endswith("file.zip!" + name)
    (new,) = _files(tmp_path) - before
    assert new.is_relative_to(node.archive.root / "images") and image.SOPInstanceUID in new.name


def _files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file() and path.suffix == ".dcm"}


def test_two_members_of_one_name_are_two_members(node: SmallNode, tmp_path: Path) -> None:
    entries = [_true(b"same.dcm", _bytes(make_radiograph())) for _ in range(2)]
    assert outcomes(take_all(node, _write_zip(tmp_path / "two.zip", *entries))) == ["taken", "taken"]


@pytest.mark.parametrize("way", ["flag", "program"])
def test_an_encrypted_member(node: SmallNode, tmp_path: Path, way: str) -> None:
    path = tmp_path / "secret.zip"
    if way == "program":
        program = find_program("zip") or pytest.skip("zip is not installed (Debian package zip)")
        image = save(make_radiograph(), tmp_path / "image.dcm")
        subprocess.run([program, "-q", "-j", "-P", "secret", path, image], check=True)
    else:
        entry = _true(b"image.dcm", _bytes(make_radiograph()))
        entry.flags = 1
        _write_zip(path, entry)
    (taken,) = take_all(node, path)
    assert (taken.outcome, taken.reason) == ("unreadable", "encrypted")


def test_a_zip_file_within_a_zip_file(node: SmallNode, tmp_path: Path) -> None:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("image.dcm", _bytes(make_radiograph()))
    (taken,) = take_all(node, _write_zip(tmp_path / "outer.zip", _true(b"inner.zip", inner.getvalue())))
    assert taken.reason == "a zip file within a zip file is not looked into"


def test_a_method_that_nobody_knows(node: SmallNode, tmp_path: Path) -> None:
    entry = _true(b"image.dcm", _bytes(make_radiograph()))
    entry.method = 97
    (taken,) = take_all(node, _write_zip(tmp_path / "odd.zip", entry))
    assert taken.outcome == "unreadable" and taken.reason.startswith("damaged in its zip file")


def test_damage_at_every_place_of_a_zip_file(node: SmallNode, tmp_path: Path) -> None:
    """What is taken from it is what was put in: zipfile checks the CRC of each member."""
    images = [make_radiograph(rows=16, columns=16) for _ in range(3)]
    path = tmp_path / "some.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, image in enumerate(images):
            archive.writestr(f"{number}.dcm", _bytes(image))
    content = path.read_bytes()
    for at in range(0, len(content), 17):
        path.write_bytes(content[:at] + bytes([content[at] ^ 0x55]) + content[at + 1 :])
        assert 1 <= len(take_all(node, path)) <= 3
    for length in range(1, len(content), 101):
        path.write_bytes(content[:length])
        assert outcomes(take_all(node, path)) == ["unreadable"]
    whole = {_bytes(image) for image in images}
    assert {one.read_bytes() for one in (node.archive.root / "images").rglob("*.dcm")} == whole
    assert stored(node.records) == sorted(image.SOPInstanceUID for image in images)


def test_a_dicom_file_that_looks_like_a_zip_file(node: SmallNode, tmp_path: Path) -> None:
    content = _bytes(make_radiograph())
    (tmp_path / "both").write_bytes(b"PK\x03\x04" + content[4:])  # the preamble is free (PS3.10 7.1)
    assert outcomes(take_all(node, tmp_path / "both")) == ["taken"]


def test_a_zip_file_that_goes_away_meanwhile(node: SmallNode, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for number in range(3):
            archive.writestr(f"{number}.dcm", _bytes(make_radiograph()))
    walk = find([tmp_path / "a.zip"], node.archive.root)
    next(walk)
    (tmp_path / "a.zip").unlink()
    assert len(list(walk)) == 2
