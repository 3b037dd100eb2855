"""The same image in another header or another transfer syntax is the same; another image is not."""

from __future__ import annotations

import os
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from litegpt.isolation import Isolation
from service.pixels import same_pixels
from tests.images import asymmetric_pixels, make_radiograph

HERE = Isolation(0)

LOSSLESS = [
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
    RLELossless,
    JPEGLSLossless,
    JPEG2000Lossless,
]


def _file(folder: Path, name: str, dataset: Dataset) -> Path:
    path = folder / name
    dataset.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize("syntax", LOSSLESS)
def test_an_image_is_itself_in_another_header_and_syntax(tmp_path: Path, syntax: str) -> None:
    before = _file(tmp_path, "before", make_radiograph())
    after = make_radiograph(transfer_syntax=syntax, PatientName="Another^And^Longer^Name")
    assert same_pixels(before, _file(tmp_path, "after", after), HERE)


@pytest.mark.parametrize("syntax", LOSSLESS)
def test_one_pixel_makes_another_image(tmp_path: Path, syntax: str) -> None:
    pixels = asymmetric_pixels(64, 48)
    before = _file(tmp_path, "before", make_radiograph(pixels))
    pixels[40, 20] += 1
    assert not same_pixels(
        before, _file(tmp_path, "after", make_radiograph(pixels, transfer_syntax=syntax)), HERE
    )


def test_the_same_bytes_in_another_shape_are_another_image(tmp_path: Path) -> None:
    pixels = asymmetric_pixels(64, 48)
    before = _file(tmp_path, "before", make_radiograph(pixels))
    after = _file(tmp_path, "after", make_radiograph(pixels.reshape(48, 64)))
    assert not same_pixels(before, after, HERE)


def test_what_cannot_be_decoded_is_another_image(tmp_path: Path) -> None:
    before = _file(tmp_path, "before", make_radiograph())
    broken = make_radiograph(transfer_syntax=JPEGLSLossless)
    broken.PixelData = broken.PixelData[:30] + bytes(len(broken.PixelData) - 38) + broken.PixelData[-8:]
    assert not same_pixels(before, _file(tmp_path, "after", broken), HERE)


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless])
def test_a_small_file_that_would_make_a_large_image_is_not_decoded(
    tmp_path: Path, syntax: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The decoders allocate what the codestream asks for, and a listener has no memory for that."""
    decoding = Mock(wraps=pixel_array)
    monkeypatch.setattr("service.pixels.pixel_array", decoding)
    before = _file(tmp_path, "before", make_radiograph())
    large = make_radiograph(transfer_syntax=syntax)
    content, rows = bytearray(large.PixelData), (64).to_bytes(2, "big")
    at = content.index(b"\xff\x51") + 10 if syntax == JPEG2000Lossless else content.index(b"\xff\xf7") + 5
    assert content[at : at + 2] == rows or content[at : at + 4] == b"\0\0" + rows
    content[at : at + 2] = b"\xff\xff"
    large.PixelData = bytes(content)
    assert not same_pixels(before, _file(tmp_path, "after", large), HERE)
    assert decoding.call_count == 1, "of the one before alone"


def test_more_pixels_than_a_radiograph_has_are_not_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [make_radiograph(transfer_syntax=syntax) for syntax in (RLELossless, JPEGLSLossless)]
    files = [_file(tmp_path, str(number), image) for number, image in enumerate(images)]
    monkeypatch.setattr("service.pixels.MAXIMUM_PIXELS", 64 * 48)
    assert same_pixels(*files, HERE)
    monkeypatch.setattr("service.pixels.MAXIMUM_PIXELS", 64 * 48 - 1)
    assert not same_pixels(*files, HERE)


def test_a_random_image_is_not_another_one(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 4096, (64, 48)).astype(np.uint16)
    assert not same_pixels(
        _file(tmp_path, "before", make_radiograph()), _file(tmp_path, "after", make_radiograph(noise)), HERE
    )


def test_what_says_its_size_in_no_known_way_is_not_the_same(tmp_path: Path) -> None:
    before = _file(tmp_path, "before", make_radiograph())
    content = before.read_bytes()
    at = content.index(b"\x28\x00\x10\x00US")  # Rows, in a VR that there is not
    after = tmp_path / "after"
    after.write_bytes(content[: at + 4] + b"U\t" + content[at + 6 :])
    assert not same_pixels(before, after, HERE)


def test_a_decoder_that_crashes_makes_another_image(tmp_path: Path) -> None:
    files = [_file(tmp_path, name, make_radiograph(transfer_syntax=syntax)) for name, syntax in SAME.items()]
    assert same_pixels(files[0], files[1], Isolation())
    assert not same_pixels(files[0], files[1], _Crashing())


SAME = {"before": JPEGLSLossless, "after": JPEG2000Lossless}


class _Crashing(Isolation):
    """One whose work always ends its process."""

    def call(self, function: object, *arguments: object, **named: object) -> object:
        return super().call(os.abort)
