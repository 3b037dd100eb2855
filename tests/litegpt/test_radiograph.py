"""Reading radiographs: every transfer syntax, unusual layouts, and everything that is no radiograph."""

from __future__ import annotations

import os
import random
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.uid import (
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from litegpt.errors import RadiographError
from litegpt.radiograph import read_radiograph
from tests.images import CR, SECONDARY_CAPTURE, asymmetric_pixels, make_radiograph
from tests.peers.dcmtk import run_program
from tests.presence import real_radiographs

_SYNTAXES = [
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    RLELossless,
    JPEGLSLossless,
    JPEG2000Lossless,
]


@pytest.mark.parametrize("bits_stored", [8, 10, 12, 15, 16])
@pytest.mark.parametrize("syntax", _SYNTAXES)
def test_every_lossless_syntax_gives_the_same_picture(tmp_path: Path, syntax: str, bits_stored: int) -> None:
    path = tmp_path / "image.dcm"
    make_radiograph(bits_stored=bits_stored, transfer_syntax=syntax).save_as(path, enforce_file_format=True)
    stored = asymmetric_pixels(64, 48, bits_stored).astype(float)
    expected = np.rint(stored / (2**bits_stored - 1) * 255)
    assert (read_radiograph(path).pixels == expected).all()
    assert (read_radiograph(pydicom.dcmread(path)).pixels == expected).all()


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless, ExplicitVRBigEndian])
def test_signed_pixels_in_every_syntax(tmp_path: Path, syntax: str) -> None:
    pixels = np.repeat(np.array([[-2048, -1, 0, 2047]], dtype=np.int16), 64, axis=0).repeat(16, axis=1)
    dataset = make_radiograph(
        pixels, sop_class=CR, WindowCenter="0", WindowWidth="4096", transfer_syntax=syntax
    )
    path = tmp_path / "image.dcm"
    dataset.save_as(path, enforce_file_format=True)
    assert read_radiograph(path).pixels[5, ::16].tolist() == [0, 127, 128, 255]


@pytest.mark.parametrize(
    ("option", "bits_stored", "tolerance"),
    [
        ("+e1", 8, 0),  # lossless, SV1
        ("+e1", 12, 0),
        ("+e1", 16, 0),
        ("+el", 12, 0),  # lossless
        ("+eb", 8, 6),  # baseline
    ],
)
def test_jpeg_written_by_dcmtk(tmp_path: Path, option: str, bits_stored: int, tolerance: int) -> None:
    plain, compressed = tmp_path / "plain.dcm", tmp_path / "jpeg.dcm"
    ramp = np.linspace(0, 2**bits_stored - 1, 64 * 48).reshape(64, 48).astype(np.uint16)
    make_radiograph(ramp, bits_stored=bits_stored).save_as(plain, enforce_file_format=True)
    assert run_program("dcmcjpeg", option, plain, compressed, package="dcmtk").succeeded
    difference = np.abs(read_radiograph(compressed).pixels.astype(int) - read_radiograph(plain).pixels)
    assert difference.max() <= tolerance


def test_jpeg_of_12_bits_needs_the_gpl_decoder(tmp_path: Path) -> None:
    if find_spec("libjpeg"):
        pytest.skip("the extra gpl-codecs is installed: it decodes 12-bit JPEG")
    plain, compressed = tmp_path / "plain.dcm", tmp_path / "jpeg.dcm"
    make_radiograph().save_as(plain, enforce_file_format=True)
    assert run_program("dcmcjpeg", "+ee", plain, compressed, package="dcmtk").succeeded
    with pytest.raises(RadiographError, match="JPEG Extended"):
        read_radiograph(compressed)


@pytest.mark.parametrize(
    ("syntax", "options"), [(JPEG2000, {"j2k_cr": [5]}), (JPEGLSNearLossless, {"jls_error": 2})]
)
def test_lossy_syntaxes(syntax: str, options: dict[str, Any]) -> None:
    dataset = make_radiograph(bits_stored=8)
    expected = read_radiograph(dataset).pixels.astype(int)
    dataset.compress(syntax, generate_instance_uid=False, **options)
    assert np.abs(read_radiograph(dataset).pixels - expected).max() <= 12


def test_unused_bits_may_hold_anything() -> None:
    # An old overlay in bit 12 of the cells; and 12 bits stored in the upper bits of 16
    plain = asymmetric_pixels(64, 48)
    overlay = make_radiograph(plain | np.uint16(0xF000))
    shifted = make_radiograph((plain << 4) | np.uint16(0x000A), HighBit=15)
    expected = read_radiograph(make_radiograph(plain)).pixels
    assert (read_radiograph(overlay).pixels == expected).all()
    assert (read_radiograph(shifted).pixels == expected).all()


def test_colour_gives_its_luminance() -> None:
    rgb = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [10, 10, 10]]], dtype=np.uint8)
    dataset = make_radiograph(rgb, bits_stored=8, photometric="RGB", sop_class=SECONDARY_CAPTURE)
    # 0.299, 0.587 and 0.114 of 255 (PS3.3 C.7.6.3.1.2)
    assert read_radiograph(dataset).pixels.tolist() == [[76, 150, 29, 255, 10]]


def test_palette_colour_gives_its_luminance() -> None:
    dataset = make_radiograph(
        np.array([[0, 1]], np.uint8), bits_stored=8, photometric="PALETTE COLOR", sop_class=SECONDARY_CAPTURE
    )
    for colour, entries in (("Red", [0, 65535]), ("Green", [0, 65535]), ("Blue", [0, 0])):
        dataset.add_new(f"{colour}PaletteColorLookupTableDescriptor", "US", [2, 0, 16])
        dataset.add_new(f"{colour}PaletteColorLookupTableData", "OW", np.array(entries, "<u2").tobytes())
    assert read_radiograph(dataset).pixels.tolist() == [[0, 226]]


@pytest.mark.parametrize("frames", [1, 0, None])
@pytest.mark.filterwarnings("ignore:A value of")
def test_one_frame_is_a_radiograph(frames: int | None) -> None:
    dataset = make_radiograph()
    dataset.NumberOfFrames = frames
    assert read_radiograph(dataset).rows == 64


def test_sizes() -> None:
    radiograph = read_radiograph(make_radiograph(rows=5, columns=7))
    assert (radiograph.rows, radiograph.columns) == (5, 7)


def _raising(message: str, dataset: Dataset) -> None:
    with pytest.raises(RadiographError, match=message) as raised:
        read_radiograph(dataset)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"Rows": 0}, "0 rows"),
        ({"Columns": 0}, "0 columns"),
        ({"Rows": 65535, "Columns": 65535}, "65535 × 65535 pixels are more"),
        ({"Rows": None}, "Rows"),
        ({"BitsAllocated": None}, "BitsAllocated"),
        ({"BitsAllocated": 32, "BitsStored": 32}, "32 bits"),
        ({"BitsStored": 17}, "17 bits"),
        ({"BitsStored": 0}, "0 bits"),
        ({"PixelRepresentation": None}, "PixelRepresentation"),
        ({"SamplesPerPixel": 3}, "contradict"),
        ({"SamplesPerPixel": None}, "SamplesPerPixel"),
        ({"PhotometricInterpretation": None}, "PhotometricInterpretation"),
        ({"PhotometricInterpretation": "CMYK"}, "contradict"),
        ({"NumberOfFrames": 2}, "2 frames"),
        ({"PixelData": None}, "no pixel data"),
        ({"PixelData": b""}, "no pixel data"),
        ({"PixelData": b"\0\0"}, "cannot be decoded"),
        ({"Rows": 128}, "cannot be decoded"),
    ],
)
def test_what_is_no_radiograph(attributes: dict[str, Any], message: str) -> None:
    _raising(message, make_radiograph(**attributes))


def test_a_constant_image() -> None:
    _raising("same value", make_radiograph(np.full((8, 8), 77, np.uint16)))
    rgb = np.full((8, 8, 3), 77, np.uint8)
    _raising(
        "same value", make_radiograph(rgb, bits_stored=8, photometric="RGB", sop_class=SECONDARY_CAPTURE)
    )


def test_a_broken_modality_lut() -> None:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [4096, 0, 16])
    item.add_new("LUTData", "OW", b"\0\0")
    _raising("modality LUT", make_radiograph(sop_class=CR, ModalityLUTSequence=[item]))


def test_unknown_transfer_syntaxes() -> None:
    dataset = make_radiograph()
    dataset.file_meta.TransferSyntaxUID = "1.2.3.4"
    _raising("unknown", dataset)
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.100"  # MPEG2
    _raising("cannot be decoded", dataset)
    del dataset.file_meta.TransferSyntaxUID
    _raising("transfer syntax", dataset)


def test_a_giant_image_takes_no_memory_and_no_time() -> None:
    started = time.monotonic()
    for syntax in (JPEG2000Lossless, JPEGLSLossless, RLELossless):
        dataset = make_radiograph(transfer_syntax=syntax)
        dataset.Rows = dataset.Columns = 60000
        _raising("more than", dataset)
    assert time.monotonic() - started < 2


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless])
def test_a_codestream_larger_than_announced(syntax: str) -> None:
    dataset = make_radiograph(rows=256, columns=256, transfer_syntax=syntax)
    dataset.Rows = dataset.Columns = 16
    _raising("256 × 256", dataset)


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless, RLELossless])
@pytest.mark.parametrize("kept", [0.0, 0.02, 0.5, 0.9, 0.99])
def test_truncated_compressed_pixels(syntax: str, kept: float) -> None:
    rng = np.random.default_rng(1)
    dataset = make_radiograph(rng.integers(0, 4096, (64, 48), dtype=np.uint16), transfer_syntax=syntax)
    frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
    dataset.PixelData = encapsulate([frame[: int(len(frame) * kept) // 2 * 2] or b"\0\0"])
    with pytest.raises(RadiographError):
        read_radiograph(dataset)


@pytest.mark.parametrize("syntax", _SYNTAXES)
@pytest.mark.filterwarnings("ignore")  # pydicom warns of much that it finds in broken files
def test_truncated_files(tmp_path: Path, syntax: str) -> None:
    whole, cut = tmp_path / "whole.dcm", tmp_path / "cut.dcm"
    make_radiograph(transfer_syntax=syntax).save_as(whole, enforce_file_format=True)
    data = whole.read_bytes()
    for length in sorted({0, 1, 131, 132, 140, 200, *range(210, len(data) - 12, 97)}):
        cut.write_bytes(data[:length])
        with pytest.raises(RadiographError):
            read_radiograph(cut)


@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGLSLossless, RLELossless]
)
@pytest.mark.filterwarnings("ignore")
def test_damaged_files_raise_nothing_else(tmp_path: Path, syntax: str) -> None:
    whole, damaged = tmp_path / "whole.dcm", tmp_path / "damaged.dcm"
    make_radiograph(rows=8, columns=8, transfer_syntax=syntax).save_as(whole, enforce_file_format=True)
    data = whole.read_bytes()
    random_source = random.Random(7)
    for _ in range(300):
        changed = bytearray(data)
        for _ in range(random_source.choice((1, 2, 8))):
            changed[random_source.randrange(132, len(changed))] = random_source.randrange(256)
        damaged.write_bytes(changed)
        try:
            read_radiograph(damaged)
        except RadiographError as error:
            assert "\n" not in str(error)


def test_files_that_are_no_dicom(tmp_path: Path) -> None:
    path = tmp_path / "letter.pdf"
    path.write_bytes(b"%PDF-1.7" + os.urandom(2000))
    with pytest.raises(RadiographError, match="not a DICOM file"):
        read_radiograph(path)


def test_a_file_that_cannot_be_opened_is_no_verdict_on_the_image(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_radiograph(tmp_path / "absent.dcm")


def test_a_report_has_no_pixels() -> None:
    dataset = make_radiograph()
    for keyword in ("Rows", "Columns", "PixelData"):
        delattr(dataset, keyword)
    _raising("Rows", dataset)


def test_real_radiographs() -> None:
    sizes = {path.name: read_radiograph(path).pixels.shape for path in real_radiographs()}
    assert sizes["00001933_000.dcm"] == (960, 1024)
    assert sizes["00004296_000.dcm"] == (1024, 940)
    assert len(sizes) == 7
