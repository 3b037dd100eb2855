"""Squares of an image decoded at a lower resolution, against those of the whole image by another decoder."""

from __future__ import annotations

import struct
from dataclasses import astuple, replace
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import numpy as np
import openjpeg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    JPEG2000,
    UID,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from litegpt import squares
from litegpt.engine import Engine
from litegpt.errors import ModelError, RadiographError
from litegpt.findings import Reading
from litegpt.levels import lower_level
from litegpt.pixel_layout import PixelLayout
from litegpt.radiograph import read_radiograph
from litegpt.squares import read_squares, squashed
from tests.images import SECONDARY_CAPTURE, make_radiograph
from tests.peers.dcmtk import run_program
from training.phantom.collection import fresh_phantoms
from training.phantom.dicom import phantom_dataset

LARGEST: Final = 6
"""Gray levels of 255 by which a pixel of a square may differ: docs/performance.md states it."""
MEAN: Final = 1.6
"""The same, over all pixels of a square. The reversible wavelet rounds up, half a stored value a level on
average (ISO 15444-1 F.3.8.2): of 8 bits that is half a gray level."""
OF_PHANTOMS: Final = (6, 0.75)
"""Largest and mean difference of radiographs that are like real ones."""
SIZE: Final = 40


def picture(rows: int, columns: int, bits: int, seed: int = 1) -> NDArray[np.uint16]:
    """Shapes of all sizes from a sixth of the image on, and noise."""
    rng = np.random.default_rng(seed)
    shapes = Image.fromarray(rng.uniform(0.1, 0.9, (7, 6)).astype(np.float32))
    smooth = np.asarray(shapes.resize((columns, rows), Image.Resampling.BICUBIC))
    noisy = smooth + rng.normal(0, 0.01, (rows, columns))
    return np.rint(np.clip(noisy, 0, 1) * (2**bits - 1)).astype(np.uint16)


def encoded(stored: NDArray[Any], bits: int, **options: Any) -> bytes:
    """A codestream by pylibjpeg-openjpeg."""
    frame = openjpeg.encode(stored, bits_stored=bits, photometric_interpretation=2, use_mct=False, **options)
    return bytes(frame)


def compressed(
    stored: NDArray[Any], bits: int, *, lossy: bool = False, codestream: bytes = b"", **attributes: Any
) -> Dataset:
    """A radiograph of JPEG 2000 pixel data."""
    dataset = make_radiograph(stored, bits_stored=bits, **attributes)
    kind = "i" if np.issubdtype(stored.dtype, np.signedinteger) else "u"
    kept = stored.astype(f"{kind}{1 if bits <= 8 else 2}")
    ratio: dict[str, Any] = {"compression_ratios": [8]} if lossy else {}
    dataset.PixelData = encapsulate([codestream or encoded(kept, bits, **ratio)])
    dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = JPEG2000 if lossy else JPEG2000Lossless
    return dataset


def by_another_decoder(dataset: Dataset) -> NDArray[np.uint8]:
    """The square of the whole image, decoded by pylibjpeg-openjpeg and shown from an uncompressed copy."""
    (frame,) = generate_frames(dataset.PixelData, number_of_frames=1)
    stored = np.asarray(openjpeg.decode(frame)).reshape(dataset.Rows, dataset.Columns)
    plain = Dataset(dataset)
    plain.file_meta = type(dataset.file_meta)()
    plain.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    plain.PixelData = stored.tobytes() + b"\0" * (stored.nbytes % 2)
    plain["PixelData"].VR = "OW"
    plain["PixelData"].is_undefined_length = False
    return squashed(read_radiograph(plain).pixels, SIZE)


def assert_like(
    square: NDArray[np.uint8], expected: NDArray[np.uint8], largest: int = LARGEST, mean: float = MEAN
) -> None:
    difference = np.abs(square.astype(int) - expected)
    assert difference.max() <= largest, difference.max()
    assert difference.mean() <= mean, difference.mean()


def assert_level(dataset: Dataset, shape: tuple[int, int] | None) -> None:
    """Of what is decoded, one edge line more on either side for JPEG 2000."""
    level = lower_level(dataset.PixelData, PixelLayout.of(dataset, 10**8), 2 * SIZE)
    assert (None if level is None else level.codes.shape) == shape


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(160, 700),
    columns=st.integers(160, 700),
    bits=st.sampled_from([8, 10, 12, 16]),
    signed=st.booleans(),
    photometric=st.sampled_from(["MONOCHROME1", "MONOCHROME2"]),
    lossy=st.booleans(),
    windowed=st.booleans(),
)
def test_any_jpeg_2000_gives_the_square_of_the_whole_image(
    rows: int, columns: int, bits: int, signed: bool, photometric: str, lossy: bool, windowed: bool
) -> None:
    stored: NDArray[Any] = picture(rows, columns, bits)
    if signed:
        stored = (stored.astype(np.int32) - 2 ** (bits - 1)).astype(np.int16)
    window = {"WindowCenter": str(0 if signed else 2 ** (bits - 1)), "WindowWidth": str(2**bits)}
    attributes: dict[str, Any] = window if windowed else dict.fromkeys(window)
    dataset = compressed(stored, bits, lossy=lossy, photometric=photometric, **attributes)
    times = max(n for n in range(6) if min(-(-rows // 2**n), -(-columns // 2**n)) >= 2 * SIZE)
    assert times > 0
    assert_level(dataset, (-(-rows // 2**times) + 1, -(-columns // 2**times) + 1))
    image = read_squares(dataset, [SIZE])
    assert (image.rows, image.columns) == (rows, columns)
    assert_like(image.squares[0], by_another_decoder(dataset))


def by_pillow(stored: NDArray[Any], **options: Any) -> bytes:
    """A codestream of forms that the other encoder does not write."""
    file = BytesIO()
    Image.fromarray(stored).save(file, "JPEG2000", **{"no_jp2": True, **options})
    return file.getvalue()


@pytest.mark.parametrize(
    ("options", "times"),
    [
        ({"tile_size": (120, 80)}, 2),
        ({"tile_size": (90, 50), "irreversible": True}, 2),  # no tile but the first begins on a sample
        ({"num_resolutions": 2}, 1),
        ({"num_resolutions": 1}, 0),
        ({"no_jp2": False}, 2),
    ],
)
def test_forms_of_a_codestream(options: dict[str, Any], times: int) -> None:
    rows, columns = 400, 360
    stored = picture(rows, columns, 8).astype(np.uint8)
    dataset = compressed(stored, 8, codestream=by_pillow(stored, **options))
    np.testing.assert_allclose(dataset.pixel_array, stored, atol=2 if "irreversible" in options else 0)
    assert_level(dataset, (rows // 2**times + 1, columns // 2**times + 1) if times else None)
    assert_like(read_squares(dataset, [SIZE]).squares[0], squashed(read_radiograph(dataset).pixels, SIZE))


def test_a_codestream_that_does_not_begin_at_the_origin_is_decoded_whole() -> None:
    frame = bytearray(encoded(picture(400, 360, 12), 12))
    frame[8:24] = struct.pack(">4I", 363, 405, 3, 5)  # Xsiz, Ysiz, XOsiz, YOsiz
    assert_level(compressed(picture(400, 360, 12), 12, codestream=bytes(frame)), None)


def test_a_codestream_of_other_samples_than_the_dataset_says_is_decoded_whole() -> None:
    stored = picture(400, 360, 12)
    dataset = compressed(
        stored,
        12,
        codestream=encoded(stored, 16),
    )
    assert_level(dataset, None)
    np.testing.assert_array_equal(
        read_squares(dataset, [SIZE]).squares[0], squashed(read_radiograph(dataset).pixels, SIZE)
    )


def test_one_that_is_not_larger_than_needed_is_decoded_whole() -> None:
    dataset = compressed(picture(159, 400, 12), 12)
    assert_level(dataset, None)
    np.testing.assert_array_equal(
        read_squares(dataset, [SIZE]).squares[0], squashed(read_radiograph(dataset).pixels, SIZE)
    )


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless, JPEGLSLossless])
def test_other_syntaxes_give_exactly_the_square_of_the_whole_image(syntax: UID) -> None:
    dataset = make_radiograph(picture(400, 360, 12), transfer_syntax=syntax)
    image = read_squares(dataset, [SIZE, 17, SIZE])
    for size, square in zip((SIZE, 17, SIZE), image.squares, strict=True):
        np.testing.assert_array_equal(square, squashed(read_radiograph(dataset).pixels, size))


def test_colour_is_decoded_whole() -> None:
    rgb = np.repeat(picture(400, 360, 8).astype(np.uint8)[..., None], 3, axis=2)
    dataset = make_radiograph(rgb, bits_stored=8, photometric="RGB", sop_class=SECONDARY_CAPTURE)
    np.testing.assert_array_equal(
        read_squares(dataset, [SIZE]).squares[0], squashed(read_radiograph(dataset).pixels, SIZE)
    )


@pytest.mark.parametrize("shape", [(400, 360), (333, 651)])
def test_jpeg_baseline_of_dcmtk(tmp_path: Path, shape: tuple[int, int]) -> None:
    plain, jpeg = tmp_path / "plain.dcm", tmp_path / "jpeg.dcm"
    make_radiograph(picture(*shape, 8), bits_stored=8).save_as(plain, enforce_file_format=True)
    assert run_program("dcmcjpeg", "+eb", plain, jpeg, package="dcmtk").succeeded
    assert_level(dcmread(jpeg), tuple(-(-side // 4) for side in shape))  # type: ignore[arg-type]
    assert_like(read_squares(jpeg, [SIZE]).squares[0], squashed(read_radiograph(jpeg).pixels, SIZE))


def test_details_that_a_level_does_not_have_are_looked_for_in_the_whole_image() -> None:
    """One pixel apart from an even image: at a quarter of the sides there is nothing left of it."""
    stored = np.full((400, 360), 2000, np.uint16)
    stored[201, 203] = 2001
    dataset = compressed(stored, 12, WindowCenter=None, WindowWidth=None)
    np.testing.assert_array_equal(
        read_squares(dataset, [SIZE]).squares[0], squashed(read_radiograph(dataset).pixels, SIZE)
    )


@pytest.mark.parametrize("damage", ["no levels", "cut", "no end", "larger", "noise"])
def test_what_is_damaged_is_said_as_of_the_whole_image(damage: str) -> None:
    frame = bytearray(encoded(picture(400, 360, 12), 12))
    if damage == "no levels":
        frame[frame.index(b"\xff\x52") + 9] = 40  # more than the format has
    elif damage == "cut":
        del frame[len(frame) // 2 :]
    elif damage == "no end":
        del frame[-2:]
    elif damage == "larger":
        frame[8:12] = (100_000).to_bytes(4, "big")
    else:
        frame[60:-2] = b"\x55" * (len(frame) - 62)
    dataset = compressed(picture(400, 360, 12), 12, codestream=bytes(frame))
    with pytest.raises(RadiographError) as whole:
        read_radiograph(dataset)
    with pytest.raises(RadiographError) as ours:
        read_squares(dataset, [SIZE])
    assert str(ours.value) == str(whole.value)


def test_high_throughput_jpeg_2000() -> None:
    """A file that OpenJPH has written: triangles on curved lines, of 16 bits."""
    down, across = np.mgrid[0:201, 0:182]
    waves = (across * across // 97 + down * down // 61 + across * down // 83) % 1024
    stored = (np.minimum(np.abs(waves - 512) * 4, 2047) * 32).astype(np.uint16)
    frame = (Path(__file__).parent / "triangles.j2c").read_bytes()
    dataset = compressed(stored, 16, codestream=frame)
    dataset.file_meta.TransferSyntaxUID = HTJ2KLossless
    np.testing.assert_array_equal(dataset.pixel_array, stored)
    assert_level(dataset, (102, 92))
    expected = squashed(read_radiograph(make_radiograph(stored, bits_stored=16)).pixels, SIZE)
    assert_like(read_squares(dataset, [SIZE]).squares[0], expected)


@pytest.fixture(scope="module")
def shipped() -> Engine:
    return Engine.load("phantom", device="cpu")


def test_the_model_answers_alike(shipped: Engine) -> None:
    """Of phantoms as large as a detector's images, lossless and not: the same labels, boxes hardly apart."""
    small, whole = [], []
    for number, item in enumerate(fresh_phantoms(4, 515)):
        form = replace(item.form, rows=1901, columns=1795, transfer_syntax=ExplicitVRLittleEndian)
        plain = phantom_dataset(item.phantom, form, item.label)
        lossy: dict[str, Any] = {"j2k_cr": [15]} if number % 2 else {}
        plain.compress(JPEG2000 if lossy else JPEG2000Lossless, generate_instance_uid=False, **lossy)
        small.append(read_squares(plain, shipped.square_sizes))
        whole.append(read_radiograph(plain))
        expected = squashed(whole[-1].pixels, shipped.square_sizes[0])
        assert_like(small[-1].squares[0], expected, *OF_PHANTOMS)
    for ours, theirs in zip(shipped.read(small), shipped.read(whole), strict=True):
        assert_answers_alike(ours, theirs)


def assert_answers_alike(ours: Reading, theirs: Reading) -> None:
    assert [one.label for one in ours.findings] == [one.label for one in theirs.findings]
    for one, other in zip(ours.findings, theirs.findings, strict=True):
        assert one.score == pytest.approx(other.score, abs=0.1)
        if other.box is not None:
            assert one.box is not None
            assert np.abs(np.subtract(astuple(one.box), astuple(other.box))).max() <= 1901 / 25


def test_squares_of_another_size_are_refused(shipped: Engine) -> None:
    image = squares.SquashedImage(10, 10, (np.zeros((16, 16), np.uint8),))
    with pytest.raises(ModelError, match="another model"):
        shipped.read([image])
