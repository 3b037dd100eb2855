"""What a received file is found to be, and what is refused: cut short, mangled, or not what was said."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from service.errors import CannotUnderstand, DatasetMismatch
from service.received import dataset_offset, examine
from tests.images import make_radiograph
from tests.presence import real_radiographs

SYNTAXES = [
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    DeflatedExplicitVRLittleEndian,
    RLELossless,
    JPEGLSLossless,
    JPEG2000Lossless,
]


def _file(tmp_path: Path, dataset: Dataset, name: str = "received") -> Path:
    path = tmp_path / name
    dataset.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_whole_file_says_what_it_is(tmp_path: Path, syntax: str) -> None:
    dataset = make_radiograph(transfer_syntax=syntax)
    path = _file(tmp_path, dataset)
    received = examine(path, dataset.SOPClassUID, dataset.SOPInstanceUID)
    assert received.study_instance_uid == dataset.StudyInstanceUID
    assert received.series_instance_uid == dataset.SeriesInstanceUID
    assert received.transfer_syntax_uid == syntax
    assert received.has_pixels
    assert received.size_bytes == path.stat().st_size


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_file_cut_short_is_refused_or_has_no_pixels(tmp_path: Path, syntax: str) -> None:
    whole = _file(tmp_path, make_radiograph(transfer_syntax=syntax)).read_bytes()
    cut = tmp_path / "cut"
    beginning = dataset_offset(tmp_path / "received")
    for length in range(beginning, len(whole) - 16, max(1, (len(whole) - beginning) // 60)):
        cut.write_bytes(whole[:length])
        try:
            assert not examine(cut).has_pixels, f"cut at {length} of {len(whole)}"
        except CannotUnderstand:
            continue


def test_the_digest_leaves_the_file_meta_out(tmp_path: Path) -> None:
    dataset = make_radiograph()
    path = _file(tmp_path, dataset)
    content = path.read_bytes()
    offset = content.index(b"\x08\x00\x05\x00CS")  # Specific Character Set is the dataset's first element
    assert dataset_offset(path) == offset
    assert examine(path).digest == hashlib.sha256(content[offset:]).hexdigest()
    dataset.file_meta.ImplementationVersionName = "OTHER"
    assert examine(_file(tmp_path, dataset, "other")).digest == examine(path).digest


def test_a_small_file_that_inflates_to_a_giant_is_refused(tmp_path: Path) -> None:
    pixels = np.zeros((12_000, 12_000), np.uint16)
    path = _file(tmp_path, make_radiograph(pixels, transfer_syntax=DeflatedExplicitVRLittleEndian))
    assert path.stat().st_size < 1_000_000
    with pytest.raises(CannotUnderstand, match="the deflated dataset is too large"):
        examine(path)


@pytest.mark.parametrize(
    ("keyword", "value", "complaint"),
    [
        ("SOPInstanceUID", "../../etc", "SOPInstanceUID is no UID, but 9 characters"),
        ("StudyInstanceUID", "..", "StudyInstanceUID is no UID, but 2 characters"),
        ("SeriesInstanceUID", "1." * 40 + "1", "SeriesInstanceUID is no UID"),
        ("StudyInstanceUID", "", "the dataset has no StudyInstanceUID"),
        ("SOPClassUID", None, "the dataset has no SOPClassUID"),
    ],
)
def test_a_uid_that_is_none_is_refused(
    tmp_path: Path, keyword: str, value: str | None, complaint: str
) -> None:
    dataset = make_radiograph()
    if value is None:
        delattr(dataset, keyword)
    else:
        dataset.add_new(keyword, "LO", value)  # LO: pydicom would not write an invalid UI
    path = tmp_path / "received"
    dataset.file_meta.MediaStorageSOPClassUID = dataset.file_meta.MediaStorageSOPInstanceUID = "1.2"
    dataset.preamble = b"\0" * 128
    dataset.save_as(path, enforce_file_format=False)
    with pytest.raises(CannotUnderstand, match=complaint.replace(".", r"\.").replace("(", r"\(")):
        examine(path)


@pytest.mark.parametrize(
    ("written", "said"),
    [(ExplicitVRLittleEndian, ImplicitVRLittleEndian), (ImplicitVRLittleEndian, ExplicitVRLittleEndian)],
)
def test_another_encoding_than_was_agreed_is_refused(tmp_path: Path, written: str, said: str) -> None:
    path = _file(tmp_path, make_radiograph(transfer_syntax=written))
    dataset_bytes = path.read_bytes()[dataset_offset(path) :]
    other = _file(tmp_path, make_radiograph(transfer_syntax=said), "other")
    path.write_bytes(other.read_bytes()[: dataset_offset(other)] + dataset_bytes)
    with pytest.raises(CannotUnderstand):
        examine(path)


def test_what_the_command_did_not_say_is_a_mismatch(tmp_path: Path) -> None:
    dataset = make_radiograph()
    path = _file(tmp_path, dataset)
    with pytest.raises(DatasetMismatch, match="SOP Class UID"):
        examine(path, "1.2.840.10008.5.1.4.1.1.2", dataset.SOPInstanceUID)
    with pytest.raises(DatasetMismatch, match="SOP Instance UID"):
        examine(path, dataset.SOPClassUID, "1.2.3")


def test_an_empty_dataset_is_refused(tmp_path: Path) -> None:
    path = _file(tmp_path, make_radiograph())
    path.write_bytes(path.read_bytes()[: dataset_offset(path)])
    with pytest.raises(CannotUnderstand, match="empty"):
        examine(path)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(noise=st.binary(min_size=1, max_size=40), place=st.floats(0, 1))
def test_any_damage_is_understood_or_refused_and_nothing_else(
    tmp_path: Path, noise: bytes, place: float
) -> None:
    path = _file(tmp_path, make_radiograph(rows=8, columns=6))
    content = bytearray(path.read_bytes())
    start = dataset_offset(path) + int(place * (len(content) - dataset_offset(path)))
    content[start : start + len(noise)] = noise
    path.write_bytes(content)
    try:
        examine(path)
    except CannotUnderstand:
        return


def test_every_real_radiograph_is_whole_and_none_is_when_cut(tmp_path: Path) -> None:
    for path in real_radiographs():
        received = examine(path)
        assert received.sop_instance_uid == dcmread(path, stop_before_pixels=True).SOPInstanceUID
        cut = tmp_path / path.name
        cut.write_bytes(path.read_bytes()[:-1000])
        with pytest.raises(CannotUnderstand):
            examine(cut)


@pytest.mark.parametrize("group_length", ["absent", "0", "too large"])
def test_a_group_length_that_is_wrong_or_absent(tmp_path: Path, group_length: str) -> None:
    """What did not come by C-STORE may say anything there; its digest is over its dataset all the same."""
    path = _file(tmp_path, make_radiograph())
    content = path.read_bytes()
    dataset = content[content.index(b"\x08\x00\x05\x00CS") :]
    lengths = {
        "absent": b"",
        "0": content[132:140] + bytes(4),
        "too large": content[132:140] + b"\xff\xff\xff\x0f",
    }
    path.write_bytes(content[:132] + lengths[group_length] + content[144:])
    assert examine(path).digest == hashlib.sha256(dataset).hexdigest()


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.1", "1.2.3", "1.2.840.10008.1.2\\1.2.840.10008.1.2.1"])
def test_a_transfer_syntax_that_is_none_is_refused(tmp_path: Path, syntax: str) -> None:
    path = _file(tmp_path, make_radiograph())
    content = path.read_bytes()
    at = content.index(b"\x02\x00\x10\x00UI")
    value = syntax.encode() + b"\0" * (len(syntax) % 2)
    element = content[at : at + 6] + len(value).to_bytes(2, "little") + value
    end = at + 8 + int.from_bytes(content[at + 6 : at + 8], "little")
    path.write_bytes(content[:at] + element + content[end:])
    with pytest.raises(CannotUnderstand, match="the transfer syntax is unknown"):
        examine(path)


def test_sequences_that_are_nested_too_deep_are_refused(tmp_path: Path) -> None:
    path = _file(tmp_path, make_radiograph())
    content = path.read_bytes()
    at = content.index(b"\x10\x00\x10\x00PN")
    opened = b"\x09\x00\x01\x10SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    closed = b"\xfe\xff\x0d\xe0\0\0\0\0" + b"\xfe\xff\xdd\xe0\0\0\0\0"
    path.write_bytes(content[:at] + opened * 3000 + closed * 3000 + content[at:])
    with pytest.raises(CannotUnderstand, match="nested too deep"):
        examine(path)
